// SPDX-License-Identifier: Apache-2.0
// The primitives of simd.h in plain C++: the fallback, and the judge of the others.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/half.h"

#define LAMINA_ISA scalar

namespace lamina::scalar {

constexpr bool kFmaRoundsOnce = false;
constexpr int kRegisters = 8;  // keeps a tile small

constexpr bool kFastDot4 = true;
struct F32 {
  float v[16];
};
struct I32 {
  std::int32_t v[16];
};
struct Bytes {
  std::uint8_t v[64];
};

template <class V, class Fn>
static inline V lanes(Fn fn) {
  V r;
  for (int i = 0; i < 16; ++i) r.v[i] = fn(i);
  return r;
}

static inline F32 zero() { return F32{}; }
static inline F32 splat(float x) {
  return lanes<F32>([&](int) { return x; });
}
static inline F32 load(const float* p) {
  return lanes<F32>([&](int i) { return p[i]; });
}
static inline F32 load_n(const float* p, int n) {
  return lanes<F32>([&](int i) { return i < n ? p[i] : 0.0F; });
}
static inline void store(float* p, const F32& x) {
  for (int i = 0; i < 16; ++i) p[i] = x.v[i];
}
static inline void store_n(float* p, const F32& x, int n) {
  for (int i = 0; i < n; ++i) p[i] = x.v[i];
}
static inline F32 first_n(const F32& x, int n, const F32& other) {
  return lanes<F32>([&](int i) { return i < n ? x.v[i] : other.v[i]; });
}
static inline F32 load_twice(const float* p) {
  return lanes<F32>([&](int i) { return p[i / 2]; });
}
static inline F32 swap_pairs(const F32& x) {
  return lanes<F32>([&](int i) { return x.v[i ^ 1]; });
}
static inline F32 operator+(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] + b.v[i]; });
}
static inline F32 operator-(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] - b.v[i]; });
}
static inline F32 operator*(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] * b.v[i]; });
}
static inline F32 operator/(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] / b.v[i]; });
}
static inline F32 fma(const F32& a, const F32& b, const F32& c) {
  return lanes<F32>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
static inline F32 max(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
static inline F32 min(const F32& a, const F32& b) {
  return lanes<F32>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
static inline F32 abs(const F32& x) {
  return lanes<F32>([&](int i) { return x.v[i] < 0 ? -x.v[i] : x.v[i]; });
}
static inline F32 load_f16(const std::uint16_t* p) {
  return lanes<F32>([&](int i) { return f32_from_f16(p[i]); });
}
static inline F32 load_bf16(const std::uint16_t* p) {
  return lanes<F32>([&](int i) { return f32_from_bf16(p[i]); });
}
static inline void store_f16(std::uint16_t* p, const F32& x) {
  for (int i = 0; i < 16; ++i) p[i] = f16_from_f32(x.v[i]);
}
static inline void store_bf16(std::uint16_t* p, const F32& x) {
  for (int i = 0; i < 16; ++i) p[i] = bf16_from_f32(x.v[i]);
}
static inline float hsum(F32 x) {
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) x.v[i] += x.v[i + half];
  return x.v[0];
}
static inline float hmax(F32 x) {
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) x.v[i] = x.v[i] > x.v[i + half] ? x.v[i] : x.v[i + half];
  return x.v[0];
}

static inline I32 zero_i32() { return I32{}; }
static inline I32 splat_i32(std::int32_t x) {
  return lanes<I32>([&](int) { return x; });
}
static inline void store_i32(std::int32_t* p, const I32& x) { __builtin_memcpy(p, x.v, sizeof(x.v)); }
static inline I32 load_i32(const std::int32_t* p) {
  return lanes<I32>([&](int i) { return p[i]; });
}
static inline I32 operator+(const I32& a, const I32& b) {
  return lanes<I32>([&](int i) { return a.v[i] + b.v[i]; });
}
static inline I32 operator-(const I32& a, const I32& b) {
  return lanes<I32>([&](int i) { return a.v[i] - b.v[i]; });
}
static inline I32 operator*(const I32& a, const I32& b) {
  return lanes<I32>([&](int i) { return a.v[i] * b.v[i]; });
}
static inline I32 operator&(const I32& a, const I32& b) {
  return lanes<I32>([&](int i) { return a.v[i] & b.v[i]; });
}
template <int kBits>
static inline I32 shift_right(const I32& x) {
  return lanes<I32>([&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(x.v[i]) >> kBits); });
}
template <int kBits>
static inline I32 shift_left(const I32& x) {
  return lanes<I32>([&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(x.v[i]) << kBits); });
}
static inline F32 to_f32(const I32& x) {
  return lanes<F32>([&](int i) { return static_cast<float>(x.v[i]); });
}
static inline I32 round_i32(const F32& x) {  // adding 1.5 * 2^23 leaves the rounded integer in the low bits
  return lanes<I32>(
      [&](int i) { return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x.v[i] + 0x1.8p23F) - 0x4b400000U); });
}
static inline I32 load_i8(const std::int8_t* p) {
  return lanes<I32>([&](int i) { return std::int32_t{p[i]}; });
}
static inline I32 load_u8(const std::uint8_t* p) {
  return lanes<I32>([&](int i) { return std::int32_t{p[i]}; });
}
static inline void store_i8(std::int8_t* p, const I32& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(x.v[i]);
}
static inline F32 round(const F32& x) {
  return lanes<F32>([&](int i) { return x.v[i] + 0x1.8p23F - 0x1.8p23F; });
}
static inline F32 times_pow2(const F32& p, const F32& n) {
  return lanes<F32>([&](int i) {  // n's low bits, as in round_i32
    const std::uint32_t power = std::bit_cast<std::uint32_t>(n.v[i] + 0x1.8p23F) << 23U;
    return n.v[i] < -125 ? 0.0F : std::bit_cast<float>(std::bit_cast<std::uint32_t>(p.v[i]) + power);
  });
}

static inline Bytes load_bytes(const void* p) {
  Bytes r;
  __builtin_memcpy(r.v, p, 64);
  return r;
}
static inline void store_bytes(void* p, const Bytes& x) { __builtin_memcpy(p, x.v, 64); }
static inline Bytes splat4(const void* p) {
  Bytes r;
  for (int i = 0; i < 16; ++i) __builtin_memcpy(r.v + 4 * i, p, 4);
  return r;
}
static inline Bytes low_nibbles(Bytes x) {
  for (auto& b : x.v) b &= 15;
  return x;
}
static inline Bytes high_nibbles(Bytes x) {
  for (auto& b : x.v) b = static_cast<std::uint8_t>(b >> 4);
  return x;
}
// Bits 2 i and 2 i + 1 of each byte.
template <int i>
static inline Bytes bit_pairs(Bytes x) {
  for (auto& b : x.v) b = static_cast<std::uint8_t>(b >> 2 * i & 3);
  return x;
}
static inline void store_digits(std::uint8_t* high, std::uint8_t* low, const I32* x) {
  for (int i = 0; i < 64; ++i) {
    const int lane = x[i / 4 % 4].v[i / 16 * 4 + i % 4];
    high[i] = static_cast<std::uint8_t>(lane >> 7);
    low[i] = static_cast<std::uint8_t>(lane & 127);
  }
}
static inline void store_words(std::int16_t* p, const I32& x) {
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 4; ++j) p[i + j] = static_cast<std::int16_t>(x.v[i + (j % 2 == 0 ? j / 2 : 2 + j / 2)]);
}
static inline Bytes even_bytes(Bytes x) {
  for (int i = 1; i < 64; i += 2) x.v[i] = 0;
  return x;
}
static inline Bytes odd_bytes(Bytes x) {
  for (int i = 0; i < 64; i += 2) x.v[i] = x.v[i + 1], x.v[i + 1] = 0;
  return x;
}
static inline I32 dot2(I32 acc, const Bytes& x, const Bytes& y) {
  std::int16_t a[32], b[32];
  __builtin_memcpy(a, x.v, 64);
  __builtin_memcpy(b, y.v, 64);
  for (int i = 0; i < 32; ++i) acc.v[i / 2] += a[i] * b[i];
  return acc;
}
static inline I32 dot4(I32 acc, const Bytes& u, const Bytes& s) {
  for (int i = 0; i < 64; ++i) acc.v[i / 4] += u.v[i] * static_cast<std::int8_t>(s.v[i]);
  return acc;
}
static inline I32 dot4_small(const I32& acc, const Bytes& u, const Bytes& s) { return dot4(acc, u, s); }
template <class V>
static inline V opaque(V x) {
  asm volatile("" : "+m"(x));
  return x;
}
[[gnu::always_inline]] static inline void prefetch(const void* p) { __builtin_prefetch(p); }
[[gnu::always_inline]] static inline void prefetch_once(const void* p) { __builtin_prefetch(p, 0, 0); }

}  // namespace lamina::scalar
