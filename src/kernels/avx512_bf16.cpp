// SPDX-License-Identifier: Apache-2.0
// The peak of bf16 dot products: a file of its own, because not every processor with AVX-512 has them. Nothing but
// kernel headers may be included here (see avx512.cpp).
#include "kernels/peak.h"
#include "kernels/simd_avx512.h"

namespace lamina::avx512 {

float dot_bf16(std::int64_t rounds) {
  const auto x = reinterpret_cast<__m512bh>(opaque(Bytes{_mm512_set1_epi32(0x3f803f80)}).v);  // ones
  __m512 sums[kBf16Chains];
#pragma GCC unroll 12
  for (__m512& sum : sums) sum = opaque(zero()).v;
  for (std::int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, x, x);
  F32 all = zero();
#pragma GCC unroll 12
  for (const __m512& sum : sums) all = all + F32{sum};
  return hsum(all);
}

}  // namespace lamina::avx512
