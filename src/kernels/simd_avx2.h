// SPDX-License-Identifier: Apache-2.0
// The primitives of simd.h for AVX2 with FMA and F16C: a 16-lane vector is two registers, a = lanes 0-7, b = 8-15.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define LAMINA_ISA avx2

namespace lamina::avx2 {

constexpr bool kFmaRoundsOnce = true;
constexpr int kRegisters = 8;  // 16 registers, two for a vector

constexpr bool kFastDot4 = false;
struct F32 {
  __m256 a, b;
};
struct I32 {
  __m256i a, b;
};
struct Bytes {
  __m256i a, b;
};

static inline __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
static inline __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
static inline __m128i load_64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
// All bits set in the lanes first + i < n.
static inline __m256i below(int n, int first) {
  const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

static inline F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline F32 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline F32 load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, below(n, 0)), _mm256_maskload_ps(p + 8, below(n, 8))};
}
static inline void store(float* p, F32 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
static inline void store_n(float* p, F32 x, int n) {
  _mm256_maskstore_ps(p, below(n, 0), x.a);
  _mm256_maskstore_ps(p + 8, below(n, 8), x.b);
}
static inline F32 first_n(F32 x, int n, F32 other) {
  return {_mm256_blendv_ps(other.a, x.a, _mm256_castsi256_ps(below(n, 0))),
          _mm256_blendv_ps(other.b, x.b, _mm256_castsi256_ps(below(n, 8)))};
}
static inline __m256 twice(__m128 x) {
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(x), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
static inline F32 load_twice(const float* p) { return {twice(_mm_loadu_ps(p)), twice(_mm_loadu_ps(p + 4))}; }
static inline F32 swap_pairs(F32 x) { return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)}; }
static inline F32 operator+(F32 x, F32 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline F32 operator-(F32 x, F32 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline F32 operator*(F32 x, F32 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline F32 operator/(F32 x, F32 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline F32 fma(F32 x, F32 y, F32 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
static inline F32 max(F32 x, F32 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline F32 min(F32 x, F32 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline F32 abs(F32 x) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
static inline F32 load_f16(const std::uint16_t* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 8))};
}
static inline __m256 load8_bf16(const std::uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
}
static inline F32 load_bf16(const std::uint16_t* p) { return {load8_bf16(p), load8_bf16(p + 8)}; }
static inline void store_f16(std::uint16_t* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline void store8_bf16(std::uint16_t* p, __m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
}
static inline void store_bf16(std::uint16_t* p, F32 x) {
  store8_bf16(p, x.a);
  store8_bf16(p + 8, x.b);
}
static inline float hsum(F32 x) {
  const __m256 a = _mm256_add_ps(x.a, x.b);
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
static inline float hmax(F32 x) {
  const __m256 a = _mm256_max_ps(x.a, x.b);
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

static inline I32 zero_i32() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline I32 splat_i32(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline void store_i32(std::int32_t* p, I32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
static inline I32 load_i32(const std::int32_t* p) { return {load_256(p), load_256(p + 8)}; }
static inline I32 operator+(I32 x, I32 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
static inline I32 operator-(I32 x, I32 y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
static inline I32 operator*(I32 x, I32 y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
static inline I32 operator&(I32 x, I32 y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
template <int kBits>
static inline I32 shift_right(I32 x) {
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
template <int kBits>
static inline I32 shift_left(I32 x) {
  return {_mm256_slli_epi32(x.a, kBits), _mm256_slli_epi32(x.b, kBits)};
}
static inline F32 to_f32(I32 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
static inline I32 round_i32(F32 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
static inline I32 load_i8(const std::int8_t* p) {
  return {_mm256_cvtepi8_epi32(load_64(p)), _mm256_cvtepi8_epi32(load_64(p + 8))};
}
static inline I32 load_u8(const std::uint8_t* p) {
  return {_mm256_cvtepu8_epi32(load_64(p)), _mm256_cvtepu8_epi32(load_64(p + 8))};
}
static inline __m128i low_byte_of_lanes(__m256i x) {  // 8 bytes, in the low half
  const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                         0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i y = _mm256_shuffle_epi8(x, first);
  return _mm_unpacklo_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}
static inline void store_i8(std::int8_t* p, I32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_unpacklo_epi64(low_byte_of_lanes(x.a), low_byte_of_lanes(x.b)));
}
static inline F32 round(F32 x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, kNearest), _mm256_round_ps(x.b, kNearest)};
}
static inline __m256 times_pow2_of_8(__m256 p, __m256 n) {
  const __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
  return _mm256_and_ps(_mm256_cmp_ps(n, _mm256_set1_ps(-125), _CMP_NLT_UQ), _mm256_castsi256_ps(scaled));
}
static inline F32 times_pow2(F32 p, F32 n) { return {times_pow2_of_8(p.a, n.a), times_pow2_of_8(p.b, n.b)}; }

static inline Bytes load_bytes(const void* p) { return {load_256(p), load_256(static_cast<const char*>(p) + 32)}; }
static inline void store_bytes(void* p, Bytes x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, x.b);
}
static inline Bytes splat4(const void* p) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, p, 4);
  return {_mm256_set1_epi32(four), _mm256_set1_epi32(four)};
}
static inline Bytes low_nibbles(Bytes x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
static inline Bytes high_nibbles(Bytes x) {
  return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
// Bits 2 i and 2 i + 1 of each byte.
template <int i>
static inline Bytes bit_pairs(Bytes x) {
  const __m256i mask = _mm256_set1_epi8(3);
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, 2 * i), mask), _mm256_and_si256(_mm256_srli_epi16(x.b, 2 * i), mask)};
}
static inline void store_half_digits(std::uint8_t* high, std::uint8_t* low, __m256i x0, __m256i x1, __m256i x2,
                                     __m256i x3) {
  const __m256i a = _mm256_packs_epi32(x0, x1), b = _mm256_packs_epi32(x2, x3), seven = _mm256_set1_epi16(127);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high),
                      _mm256_packus_epi16(_mm256_srli_epi16(a, 7), _mm256_srli_epi16(b, 7)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low),
                      _mm256_packus_epi16(_mm256_and_si256(a, seven), _mm256_and_si256(b, seven)));
}
static inline void store_digits(std::uint8_t* high, std::uint8_t* low, const I32* x) {
  store_half_digits(high, low, x[0].a, x[1].a, x[2].a, x[3].a);
  store_half_digits(high + 32, low + 32, x[0].b, x[1].b, x[2].b, x[3].b);
}
static inline void store_words(std::int16_t* p, I32 x) {
  constexpr int kPairs = 0b11011000;  // lanes 0, 2, 1, 3
  const __m256i words = _mm256_packs_epi32(_mm256_shuffle_epi32(x.a, kPairs), _mm256_shuffle_epi32(x.b, kPairs));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, kPairs));
}
static inline Bytes even_bytes(Bytes x) {
  const __m256i low = _mm256_set1_epi16(255);
  return {_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)};
}
static inline Bytes odd_bytes(Bytes x) { return {_mm256_srli_epi16(x.a, 8), _mm256_srli_epi16(x.b, 8)}; }
static inline I32 dot2(I32 acc, Bytes x, Bytes y) {
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x.a, y.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(x.b, y.b))};
}
// vpmaddubsw adds two products in 16 bits and saturates: u <= 127 fits always.
static inline __m256i dot4_small_of_8(__m256i acc, __m256i u, __m256i s) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}
// A full byte is split into its low 7 bits and its top bit: 128 * -128 * 2 = -32768 fits as well.
static inline __m256i dot4_of_8(__m256i acc, __m256i u, __m256i s) {
  const __m256i top = _mm256_set1_epi8(-128);
  return dot4_small_of_8(dot4_small_of_8(acc, _mm256_andnot_si256(top, u), s), _mm256_and_si256(u, top), s);
}
static inline I32 dot4(I32 acc, Bytes u, Bytes s) { return {dot4_of_8(acc.a, u.a, s.a), dot4_of_8(acc.b, u.b, s.b)}; }
static inline I32 dot4_small(I32 acc, Bytes u, Bytes s) {
  return {dot4_small_of_8(acc.a, u.a, s.a), dot4_small_of_8(acc.b, u.b, s.b)};
}
static inline F32 opaque(F32 x) {
  asm volatile("" : "+x"(x.a), "+x"(x.b));
  return x;
}
static inline Bytes opaque(Bytes x) {
  asm volatile("" : "+x"(x.a), "+x"(x.b));
  return x;
}
[[gnu::always_inline]] static inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
[[gnu::always_inline]] static inline void prefetch_once(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA);
}

}  // namespace lamina::avx2
