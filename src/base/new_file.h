// SPDX-License-Identifier: Apache-2.0
// A file that is written under another name, PATH.part, until it is whole: whatever happens before, a full disk for
// one, leaves a file that was at PATH alone. Where PATH is a link, the file that it leads to is replaced.
#pragma once
#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace lamina {

class NewFile {
 public:
  // Errors here and below name the path and what the system says. Error for what is there and no file: a folder, a
  // device.
  explicit NewFile(std::string path);
  ~NewFile();  // removes what was not finished
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void finish();  // everything is on the disk and takes the path's place

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void check(bool ok) const;

  std::string path_, place_, part_;  // as given; without links; under which it is written
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace lamina
