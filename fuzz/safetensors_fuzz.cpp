// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file: parse, and read every weight of every tensor.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "model/dequant.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    std::size_t held = 0;
    for (const lamina::TensorView& tensor : lamina::read_safetensors("fuzz.safetensors", bytes)) {
      held += tensor.data.size();
      std::vector<float> weights(static_cast<std::size_t>(tensor.cols()));
      for (std::int64_t row = 0; row < tensor.rows(); ++row) lamina::dequantize(tensor.type, tensor.row(row), weights);
    }
    if (held > size) std::abort();  // tensors that overlap
  } catch (const lamina::Error&) {  // what a wrong file should cause
  }
  return 0;
}
