// SPDX-License-Identifier: Apache-2.0
// Exact de-quantisation of GGUF's block formats to float32: the judge for every packed weight format.
#pragma once
#include <span>

#include "model/gguf.h"

namespace lamina {

// One row of `out.size()` weights, a multiple of block_weights(type); row.size() must be the bytes of that many.
// Equal to the bit to what gguf.quants.dequantize of the `gguf` Python package computes.
void dequantize(TensorType type, std::span<const std::byte> row, std::span<float> out);

}  // namespace lamina
