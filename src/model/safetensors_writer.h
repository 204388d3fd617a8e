// SPDX-License-Identifier: Apache-2.0
// Writes one safetensors file: the header first, then the tensors' bytes as they come. Nothing is kept in memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/tensor.h"

namespace lamina {

struct SafetensorsEntry {
  std::string name;
  TensorType type{};  // F32, F16 or BF16
  std::vector<std::int64_t> shape;
};

class SafetensorsWriter {
 public:
  // Creates the file, or empties it, and writes the header. Errors here and below name the file.
  SafetensorsWriter(std::string path, std::span<const SafetensorsEntry> tensors);

  // The next bytes of the tensors, which lie one behind the other in the order given.
  void write(std::span<const std::byte> bytes);
  // After the last one. Returns the bytes of the whole file.
  std::uint64_t finish();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void put(const void* bytes, std::size_t size);
  [[noreturn]] void refuse() const;  // what errno says

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::uint64_t total_ = 0, written_ = 0;  // bytes of the file
};

}  // namespace lamina
