// SPDX-License-Identifier: Apache-2.0
// GGUF model files (v2, v3), memory-mapped, split files joined. Everything in the file is untrusted: every offset,
// count, type and string is bounds-checked, and an Error names the file, the key or tensor, what was found and what
// was expected. Source: the GGUF specification (ggml-org/ggml, docs/gguf.md).
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "model/tensor.h"

namespace lamina {

enum class GgufType : std::uint32_t {  // of a metadata value: the file's numbers
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

struct GgufArray {  // elements are decoded on demand from the map
  GgufType element_type{};
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;  // checked at load: `count` well-formed elements
};

// A metadata value. Integers of every width arrive as int64 (signed in the file) or uint64, floats as double.
using GgufValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string_view, GgufArray>;
using GgufMetadata = std::map<std::string, GgufValue, std::less<>>;

class GgufFile {
 public:
  // A path of the form NAME-00001-of-000NN.gguf opens all NN parts.
  static GgufFile open(const std::string& path);
  // For fuzzing and tests: the bytes must outlive the object.
  static GgufFile parse(const std::string& name, std::span<const std::byte> bytes);

  const std::string& path() const { return path_; }
  bool has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
  // Typed look-ups: Error if the key is missing (without fallback) or of another type or out of the type's range.
  std::int64_t integer(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  double number(std::string_view key) const;  // float or integer
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string_view string(std::string_view key) const;
  std::string_view string(std::string_view key, std::string_view fallback) const;
  // An array, or one such value as one element. Strings are bytes: their UTF-8 is not checked.
  std::vector<std::string_view> strings(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;
  std::vector<bool> booleans(std::string_view key) const;

  const GgufMetadata& metadata() const { return metadata_; }  // of the first part
  const TensorTable& tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const { return tensors_.find(name); }
  const TensorView& tensor(std::string_view name) const { return tensors_.tensor(name); }
  const TensorView& tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    return tensors_.tensor(name, shape);
  }
  void release_pages() const;                             // of all parts: MappedFile::release_pages
  std::size_t file_bytes() const { return file_bytes_; }  // all parts

 private:
  explicit GgufFile(const std::string& path) : path_(path), tensors_(path) {}
  void add_part(const std::string& part_path, std::span<const std::byte> bytes, int part, int parts);
  const GgufValue& value(std::string_view key) const;

  std::string path_;
  std::size_t file_bytes_ = 0;
  std::vector<MappedFile> files_;
  GgufMetadata metadata_;
  TensorTable tensors_;
};

}  // namespace lamina
