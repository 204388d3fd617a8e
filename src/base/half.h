// SPDX-License-Identifier: Apache-2.0
// The 16-bit floats: f16 (IEEE binary16) and bf16 (the upper half of a float32), rounded to nearest even.
#pragma once
#include <bit>
#include <cstdint>

namespace lamina {

inline float f32_from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 31U;
  const std::uint32_t mantissa = half & 1023U;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000U | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

inline std::uint16_t f16_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t size = bits & 0x7fffffffU;
  std::uint32_t half = 0;
  if (size >= 0x47800000U) {  // 2^16 and above: infinity, or NaN
    half = size > 0x7f800000U ? 0x7e00U : 0x7c00U;
  } else if (size < 0x38800000U) {  // below 2^-14: adding 0.5 lets the addition do the rounding to steps of 2^-24
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
  } else {
    half = (size - 0x38000000U + 0xfffU + ((size >> 13) & 1U)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

inline float f32_from_bf16(std::uint16_t half) { return std::bit_cast<float>(std::uint32_t{half} << 16); }

inline std::uint16_t bf16_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace lamina
