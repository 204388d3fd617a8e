// SPDX-License-Identifier: Apache-2.0
// Vectors of 16 lanes, so that every kernel has one body for all instruction sets. scalar.cpp, avx2.cpp and avx512.cpp
// each include their simd_ISA.h (the primitives, in namespace lamina::LAMINA_ISA), then this file (what is built from
// them), then the bodies (*.inl.h). Nothing here may be called from ordinary code.
//
// Types:      F32 16 floats   I32 16 int32   Bytes 64 bytes, seen as 16 lanes of 4
// F32:        load(p) load_n(p, n) store(p, x) store_n(p, x, n)     n <= 16 lanes; the rest reads as zero
//             zero() splat(v) a + b  a - b  a * b  a / b  fma(a, b, c) = a * b + c  max(a, b) min(a, b)
//             load_f16(p) load_bf16(p) store_f16(p, x) store_bf16(p, x)      16 values, to nearest even
//             first_n(x, n, other)   lanes below n of x, the rest of `other`
//             load_twice(p)          8 values, each in two lanes    swap_pairs(x)   lanes 1 0 3 2 5 4 …
//             hsum(x) hmax(x)        one fixed order on every instruction set
//             exp(x)                 relative error 3e-7; exp(-inf) = 0, 0 below -87, 2.2e38 above 88.3, NaN stays
//             abs(x)
//             round(x)               to a whole number, to nearest even, |x| < 2^22
//             times_pow2(p, n)       p 2^n, n whole and at most 127; 0 where n < -125
// I32:        zero_i32() splat_i32(v) load_i32(p) store_i32(p, x) a + b  a - b  a * b  a & b  to_f32(x)
//             shift_left<bits>(x) shift_right<bits>(x) (zeros enter)
//             round_i32(x)           to nearest even, |x| < 2^22
//             load_i8(p) load_u8(p) (16 bytes widened)  store_i8(p, x) (16 bytes, low byte of each lane)
//             store_digits(high, low, x)  of x[4], 0 <= x < 2^14: x >> 7 and x & 127 as bytes; bytes 16 i + 4 t to
//                                    16 i + 4 t + 3 of 64 are those of lanes 4 i to 4 i + 3 of x[t]
//             store_words(p, x) (int16, of each four lanes in the order 0, 2, 1, 3: that of even_bytes, then odd_bytes)
// Bytes:      load_bytes(p) store_bytes(p, x) splat4(p) (4 bytes repeated)
//             low_nibbles(x) high_nibbles(x)                        each byte's half, as 0..15
//             bit_pairs<i>(x)                                       bits 2 i and 2 i + 1 of each byte, as 0..3
//             even_bytes(x) odd_bytes(x)                            16-bit words of bytes 0, 2, … or 1, 3, …
//             dot2(acc, x, y)        acc + sum over each lane's 2 words of x * y (both signed), exact
//             dot4(acc, u, s)        acc + sum over each lane's 4 bytes of u (unsigned) * s (signed), exact
//             dot4_small(acc, u, s)  the same where every u <= 127: faster on AVX2
// All three: opaque(x)   x, of which the compiler knows nothing: what a loop measures is neither foreseen nor moved
//             prefetch(p)            GCC 12 drops calls of functions that do nothing else: they are always_inline
//             prefetch_once(p)       of what is read once and need not stay in caches
// kFastDot4: dot4 takes one instruction, not six (on scalars: chosen so that they judge it).
// kRegisters: how many such vectors the registers hold. max and min return the second operand if either is NaN. fma
// rounds once where the machine can (kFmaRoundsOnce), else twice.
#pragma once

namespace lamina::LAMINA_ISA {

// exp(x) = 2^n e^r, x = n ln 2 + r, n whole and |r| <= ln 2 / 2.
static inline F32 exp(F32 x) {
  x = min(splat(88.3F), x);
  const F32 n = round(x * splat(1.44269504F));
  F32 r;
  if constexpr (kFmaRoundsOnce) {
    r = fma(n, splat(-0.693147182F), x);
  } else {  // in two parts, the first with few bits so that n times it is exact
    r = fma(n, splat(2.12194440e-4F), fma(n, splat(-0.693359375F), x));
  }
  F32 p = splat(0.00829028804F);  // e^r with the least relative error: 9e-8; e^0 is 1
  p = fma(p, r, splat(0.0418980122F));
  p = fma(p, r, splat(0.166676372F));
  p = fma(p, r, splat(0.499991477F));
  p = fma(p, r, splat(0.999999702F));
  p = fma(p, r, splat(1.0F));
  return times_pow2(p, n);
}

// 2^x, relative error 3e-6 (the least of its degree), for what is rounded to fewer bits than that.
static inline F32 coarse_exp2(F32 x) {
  const F32 n = round(x), r = x - n;
  F32 p = splat(0.00957010191F);
  p = fma(p, r, splat(0.0559178603F));
  p = fma(p, r, splat(0.240247448F));
  p = fma(p, r, splat(0.693121815F));
  p = fma(p, r, splat(0.999999261F));
  return times_pow2(p, n);
}

}  // namespace lamina::LAMINA_ISA
