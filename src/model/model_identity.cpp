// SPDX-License-Identifier: Apache-2.0
#include "model/model_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/sha256.h"

namespace lamina {
namespace {

constexpr std::size_t kSampleBytes = 4096;

void append_sample(std::string& to, std::span<const std::byte> data, std::size_t at) {
  const auto part = data.subspan(at, std::min(kSampleBytes, data.size() - at));
  to.append(reinterpret_cast<const char*>(part.data()), part.size());
}

}  // namespace

std::string model_identity(const ModelFile& file) {
  std::vector<const TensorView*> tensors;
  for (const TensorView& tensor : file.tensors()) tensors.push_back(&tensor);
  std::ranges::sort(tensors, {}, [](const TensorView* tensor) { return tensor->name; });
  std::string all = file.architecture() + "\n";
  for (const TensorView* tensor : tensors) {
    fmt::format_to(std::back_inserter(all), "{} {}", tensor->name, name(tensor->type));
    for (const std::int64_t size : tensor->shape) fmt::format_to(std::back_inserter(all), " {}", size);
    all += '\n';
    const std::size_t last = tensor->data.size() - std::min(kSampleBytes, tensor->data.size());
    for (const std::size_t at : {std::size_t{0}, last / 2, last}) append_sample(all, tensor->data, at);
  }
  return sha256_hex(all);
}

}  // namespace lamina
