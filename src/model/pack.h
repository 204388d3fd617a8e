// SPDX-License-Identifier: Apache-2.0
// From a GGUF tensor to the panels that the kernels read (kernels.h: WeightFormat). Few formats, each fast:
//
//   GGUF type                     becomes      lost (relative RMS error on random blocks, bounded by a test)
//   F32, F16, BF16                the same     nothing
//   Q4_0, Q4_1                    W4           nothing
//   Q4_K                          W4           its products scale * d and min * dmin are rounded to f16: 2e-4
//   Q8_0, Q5_0, IQ4_NL            W8           nothing
//   Q3_K                          W8           nothing: scale * code is an integer in -124..128, and where 128
//                                              occurs -d is the scale
//   MXFP4                         W8           nothing, if every block's scale is an f16 number; else BF16, exact too
//   Q2_K, Q5_1, Q5_K, Q6_K        W8           quantised again with scale max|w| / 127 over 32 weights: 4e-3
#pragma once
#include <cstddef>

#include "kernels/kernels.h"
#include "model/gguf.h"

namespace lamina {

WeightFormat packed_format(const TensorView& tensor);

// Bytes of one panel (16 rows) of a matrix with so many columns.
std::size_t panel_bytes(WeightFormat format, std::int64_t cols);

// Writes panel `panel` of the tensor to out[panel_bytes]; rows past the last are zero.
void pack_panel(const TensorView& tensor, WeightFormat format, std::int64_t panel, std::byte* out);

// Whether a packed panel stands for finite numbers only: a scale or a weight that is none would poison every product.
bool panel_is_finite(WeightFormat format, std::int64_t cols, const std::byte* panel);

}  // namespace lamina
