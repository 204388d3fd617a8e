// SPDX-License-Identifier: Apache-2.0
// The primitives of simd.h for AVX-512 (F, BW, DQ, VL, VNNI).
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define LAMINA_ISA avx512

namespace lamina::avx512 {

constexpr bool kFmaRoundsOnce = true;
constexpr int kRegisters = 32;

constexpr bool kFastDot4 = true;
struct F32 {
  __m512 v;
};
struct I32 {
  __m512i v;
};
struct Bytes {
  __m512i v;
};

static inline __mmask16 below(int n) { return static_cast<__mmask16>((1U << n) - 1U); }

static inline F32 zero() { return {_mm512_setzero_ps()}; }
static inline F32 splat(float x) { return {_mm512_set1_ps(x)}; }
static inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline F32 load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(below(n), p)}; }
static inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
static inline void store_n(float* p, F32 x, int n) { _mm512_mask_storeu_ps(p, below(n), x.v); }
static inline F32 first_n(F32 x, int n, F32 other) { return {_mm512_mask_blend_ps(below(n), other.v, x.v)}; }
static inline F32 load_twice(const float* p) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return {_mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(p)))};
}
static inline F32 swap_pairs(F32 x) { return {_mm512_permute_ps(x.v, 0xb1)}; }
static inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline F32 abs(F32 x) { return {_mm512_abs_ps(x.v)}; }
static inline F32 load_f16(const std::uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline F32 load_bf16(const std::uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
static inline void store_f16(std::uint16_t* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void store_bf16(std::uint16_t* p, F32 x) {  // vcvtneps2bf16 would turn subnormal numbers into zero
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i result = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), rounded, quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16)));
}
static inline float hsum(F32 x) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
static inline float hmax(F32 x) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

static inline I32 zero_i32() { return {_mm512_setzero_si512()}; }
static inline I32 splat_i32(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
static inline void store_i32(std::int32_t* p, I32 x) { _mm512_storeu_si512(p, x.v); }
static inline I32 load_i32(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
static inline I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline I32 operator-(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
static inline I32 operator*(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
static inline I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
template <int kBits>
static inline I32 shift_right(I32 x) {
  return {_mm512_srli_epi32(x.v, kBits)};
}
template <int kBits>
static inline I32 shift_left(I32 x) {
  return {_mm512_slli_epi32(x.v, kBits)};
}
static inline F32 to_f32(I32 x) { return {_mm512_cvtepi32_ps(x.v)}; }
static inline I32 round_i32(F32 x) { return {_mm512_cvtps_epi32(x.v)}; }
static inline I32 load_i8(const std::int8_t* p) {
  return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline I32 load_u8(const std::uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline void store_i8(std::int8_t* p, I32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}
static inline F32 round(F32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
static inline F32 times_pow2(F32 p, F32 n) {
  return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n.v, _mm512_set1_ps(-125), _CMP_NLT_UQ), p.v, n.v)};
}

static inline Bytes load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_bytes(void* p, Bytes x) { _mm512_storeu_si512(p, x.v); }
static inline Bytes splat4(const void* p) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
static inline Bytes low_nibbles(Bytes x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
static inline Bytes high_nibbles(Bytes x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}
// Bits 2 i and 2 i + 1 of each byte.
template <int i>
static inline Bytes bit_pairs(Bytes x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 2 * i), _mm512_set1_epi8(3))};
}
static inline void store_digits(std::uint8_t* high, std::uint8_t* low, const I32* x) {
  const __m512i a = _mm512_packs_epi32(x[0].v, x[1].v), b = _mm512_packs_epi32(x[2].v, x[3].v);
  const __m512i seven = _mm512_set1_epi16(127);
  _mm512_storeu_si512(high, _mm512_packus_epi16(_mm512_srli_epi16(a, 7), _mm512_srli_epi16(b, 7)));
  _mm512_storeu_si512(low, _mm512_packus_epi16(_mm512_and_si512(a, seven), _mm512_and_si512(b, seven)));
}
static inline void store_words(std::int16_t* p, I32 x) {
  const __m512i pairs = _mm512_shuffle_epi32(x.v, _MM_PERM_DBCA);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(pairs));
}
static inline Bytes even_bytes(Bytes x) { return {_mm512_and_si512(x.v, _mm512_set1_epi16(255))}; }
static inline Bytes odd_bytes(Bytes x) { return {_mm512_srli_epi16(x.v, 8)}; }
static inline I32 dot2(I32 acc, Bytes x, Bytes y) { return {_mm512_dpwssd_epi32(acc.v, x.v, y.v)}; }
static inline I32 dot4(I32 acc, Bytes u, Bytes s) { return {_mm512_dpbusd_epi32(acc.v, u.v, s.v)}; }
static inline I32 dot4_small(I32 acc, Bytes u, Bytes s) { return dot4(acc, u, s); }
static inline F32 opaque(F32 x) {
  asm volatile("" : "+v"(x.v));
  return x;
}
static inline Bytes opaque(Bytes x) {
  asm volatile("" : "+v"(x.v));
  return x;
}
[[gnu::always_inline]] static inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
[[gnu::always_inline]] static inline void prefetch_once(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA);
}

}  // namespace lamina::avx512
