// SPDX-License-Identifier: Apache-2.0
// The tensors of a model file, whatever its kind: views into the mapped file, by their GGUF names.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lamina {

enum class TensorType : std::uint32_t {  // GGUF's numbers
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
  kMXFP4 = 39,
};
std::span<const TensorType> tensor_types();  // all of them
std::string_view name(TensorType type);      // "Q4_1"
int block_weights(TensorType type);          // weights in one block: 1, 32 or 256
std::size_t block_bytes(TensorType type);    // bytes of one block

struct TensorView {
  std::string name;
  TensorType type{};
  std::vector<std::int64_t> shape;  // outermost first: a matrix is [rows][cols], cols contiguous
  std::span<const std::byte> data;  // rows * row_bytes, inside the map; not aligned
  std::int64_t rows() const;        // product of all but the last dimension
  std::int64_t cols() const;        // last dimension, a multiple of block_weights
  std::size_t row_bytes() const;
  std::span<const std::byte> row(std::int64_t row) const;
};

class TensorTable {
 public:
  // `path` names the model in errors. A file that has other names than GGUF's is given `spelled`: what it calls a
  // tensor, "" if nothing; errors then say both names.
  explicit TensorTable(std::string path, std::string (*spelled)(std::string_view name) = nullptr)
      : path_(std::move(path)), spelled_(spelled) {}

  void add(TensorView tensor, std::string_view part_path);  // Error, naming the part, if the name is there already

  const TensorView* find(std::string_view name) const;                                               // null if absent
  const TensorView& tensor(std::string_view name) const;                                             // Error if absent
  const TensorView& tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const;  // Error if other
  std::string quoted(std::string_view name) const;                                                   // for messages

  std::size_t size() const { return tensors_.size(); }
  bool empty() const { return tensors_.empty(); }
  auto begin() const { return tensors_.begin(); }
  auto end() const { return tensors_.end(); }

 private:
  std::string path_;
  std::string (*spelled_)(std::string_view name);
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;  // name -> position in tensors_
};

}  // namespace lamina
