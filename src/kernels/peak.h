// SPDX-License-Identifier: Apache-2.0
// Loops that do nothing but what a machine's limits are stated in: the fastest that a kernel built from the same
// primitives could be.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace lamina {

// Independent chains of one operation, in registers alone.
struct PeakLoop {
  float (*run)(std::int64_t rounds) = nullptr;  // what it returns depends on every chain; null: no such instruction
  double operations = 0;                        // of a round; a multiply-add is two
};

struct PeakKernels {
  PeakLoop f32;   // fused multiply-adds
  PeakLoop bf16;  // dot products of pairs
  PeakLoop int8;  // dot products of four bytes, as the matrix products take them
  // Reads zeros, which it adds up: a multiple of kReadBytes.
  float (*read)(const std::byte* zeros, std::size_t bytes) = nullptr;
};
constexpr std::size_t kReadBytes = 256;

PeakKernels peak_kernels(Isa isa);  // the Isa must be supported

namespace scalar {
extern const PeakKernels kPeakKernels;
}
namespace avx2 {
extern const PeakKernels kPeakKernels;
}
namespace avx512 {
extern const PeakKernels kPeakKernels;  // without bf16: see below
float dot_bf16(std::int64_t rounds);    // where the processor has AVX512_BF16
constexpr int kBf16Chains = 12;
}  // namespace avx512

}  // namespace lamina
