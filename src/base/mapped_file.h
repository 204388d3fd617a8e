// SPDX-License-Identifier: Apache-2.0
// A read-only memory map of a whole file.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lamina {

class MappedFile {
 public:
  // Throws Error when the file cannot be opened, is a directory or is empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  // Gives the pages read so far back; what is read again comes from the page cache.
  void release_pages() const;

 private:
  std::span<const std::byte> bytes_;
};

// The content of a file. Error if it has more than `most_bytes`: expected "a strategy file of at most …" for the kind
// "a strategy file of ".
std::string read_text(const std::string& path, std::size_t most_bytes, std::string_view kind = "");

}  // namespace lamina
