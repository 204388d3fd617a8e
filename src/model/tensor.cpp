// SPDX-License-Identifier: Apache-2.0
#include "model/tensor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cassert>

#include "base/error.h"

namespace lamina {
namespace {

struct TypeInfo {
  TensorType type;
  std::string_view name;
  int weights;        // in one block
  std::size_t bytes;  // of one block
};

constexpr auto kTypes = std::to_array<TypeInfo>({
    {TensorType::kF32, "F32", 1, 4},
    {TensorType::kF16, "F16", 1, 2},
    {TensorType::kBF16, "BF16", 1, 2},
    {TensorType::kQ4_0, "Q4_0", 32, 18},
    {TensorType::kQ4_1, "Q4_1", 32, 20},
    {TensorType::kQ5_0, "Q5_0", 32, 22},
    {TensorType::kQ5_1, "Q5_1", 32, 24},
    {TensorType::kQ8_0, "Q8_0", 32, 34},
    {TensorType::kQ2_K, "Q2_K", 256, 84},
    {TensorType::kQ3_K, "Q3_K", 256, 110},
    {TensorType::kQ4_K, "Q4_K", 256, 144},
    {TensorType::kQ5_K, "Q5_K", 256, 176},
    {TensorType::kQ6_K, "Q6_K", 256, 210},
    {TensorType::kIQ4_NL, "IQ4_NL", 32, 18},
    {TensorType::kMXFP4, "MXFP4", 32, 17},
});

constexpr auto kTypeList = [] {
  std::array<TensorType, kTypes.size()> list{};
  for (std::size_t i = 0; i < list.size(); ++i) list[i] = kTypes[i].type;
  return list;
}();

const TypeInfo& info(TensorType type) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeInfo& entry) { return entry.type == type; });
  assert(found != kTypes.end());
  return *found;
}

}  // namespace

std::span<const TensorType> tensor_types() { return kTypeList; }
std::string_view name(TensorType type) { return info(type).name; }
int block_weights(TensorType type) { return info(type).weights; }
std::size_t block_bytes(TensorType type) { return info(type).bytes; }

std::int64_t TensorView::cols() const { return shape.back(); }

std::int64_t TensorView::rows() const {
  std::int64_t product = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

std::size_t TensorView::row_bytes() const {
  return static_cast<std::size_t>(cols() / block_weights(type)) * block_bytes(type);
}

std::span<const std::byte> TensorView::row(std::int64_t row) const {
  assert(row >= 0 && row < rows());
  return data.subspan(static_cast<std::size_t>(row) * row_bytes(), row_bytes());
}

void TensorTable::add(TensorView tensor, std::string_view part_path) {
  const bool is_new = index_.emplace(tensor.name, tensors_.size()).second;
  require(is_new, "{}: tensor {} appears twice", part_path, quoted(tensor.name));
  tensors_.push_back(std::move(tensor));
}

std::string TensorTable::quoted(std::string_view name) const {
  const std::string other = spelled_ != nullptr ? spelled_(name) : "";
  return other.empty() ? fmt::format("\"{}\"", name) : fmt::format("\"{}\" (here \"{}\")", other, name);
}

const TensorView* TensorTable::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const TensorView& TensorTable::tensor(std::string_view name) const {
  const TensorView* found = find(name);
  if (found == nullptr) fail("{}: tensor {} is missing", path_, quoted(name));
  return *found;
}

const TensorView& TensorTable::tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const {
  const TensorView& found = tensor(name);
  if (!std::equal(shape.begin(), shape.end(), found.shape.begin(), found.shape.end()))
    fail("{}: tensor {} is [{}], expected [{}]", path_, quoted(name), fmt::join(found.shape, ","),
         fmt::join(shape, ","));
  return found;
}

}  // namespace lamina
