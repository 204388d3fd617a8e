// SPDX-License-Identifier: Apache-2.0
// The loops of peak.h. A chain's next step needs its last, so there are more chains than the two operations at a time
// of four or five cycles each that machines have; without AVX-512 a vector is several registers, which are chains too.
#include "kernels/peak.h"

namespace lamina::LAMINA_ISA {

constexpr int kAddChains = kRegisters >= 32 ? 12 : 5;
constexpr int kDotChains = kRegisters >= 32 ? 12 : 3;  // AVX2: several instructions, of which only an addition waits

static float multiply_adds(std::int64_t rounds) {
  const F32 factor = opaque(splat(0.999F)), more = opaque(splat(0.001F));
  F32 sums[kAddChains];
#pragma GCC unroll 12
  for (F32& sum : sums) sum = opaque(zero());
  for (std::int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (F32& sum : sums) sum = fma(sum, factor, more);
  F32 all = zero();
#pragma GCC unroll 12
  for (const F32& sum : sums) all = all + sum;
  return hsum(all);
}

static float dots_of_bytes(std::int64_t rounds) {
  const Bytes s = opaque(splat4("\1\1\1\1"));
  Bytes u = s;
  I32 sums[kDotChains];
#pragma GCC unroll 12
  for (I32& sum : sums) sum = zero_i32();
  for (std::int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (I32& sum : sums) {
      u = opaque(u);  // or AVX2 would multiply once
      sum = dot4_small(sum, u, s);
    }
  I32 all = zero_i32();
#pragma GCC unroll 12
  for (const I32& sum : sums) all = all + sum;
  return hsum(to_f32(all));
}

static float read_all(const std::byte* p, std::size_t bytes) {
  constexpr int kVectors = kReadBytes / 64;
  I32 sums[kVectors];
#pragma GCC unroll 8
  for (I32& sum : sums) sum = zero_i32();
  for (const std::byte* const end = p + bytes; p < end; p += kReadBytes)
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) sums[i] = sums[i] + load_i32(reinterpret_cast<const std::int32_t*>(p) + 16 * i);
  I32 all = zero_i32();
#pragma GCC unroll 8
  for (const I32& sum : sums) all = all + sum;
  return hsum(to_f32(all));
}

const PeakKernels kPeakKernels = {
    .f32 = {.run = multiply_adds, .operations = 2.0 * 16 * kAddChains},
    .bf16 = {},
    .int8 = {.run = dots_of_bytes, .operations = 2.0 * 64 * kDotChains},
    .read = read_all,
};

}  // namespace lamina::LAMINA_ISA
