// SPDX-License-Identifier: Apache-2.0
#include "model/dequant.h"

#include <array>
#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "base/half.h"

// One function per format, each for one block, with the block's layout above it. The order of the float operations is
// that of the `gguf` Python package (and this file is compiled without fused multiply-add), so results are equal to
// the bit. "nibbles [16]" holds weight i in the low half of byte i and weight 16 + i in the high half.

namespace lamina {
namespace {

using Block = const std::uint8_t*;

float f16(Block at) {
  std::uint16_t half = 0;
  std::memcpy(&half, at, sizeof half);
  return f32_from_f16(half);
}

int low(std::uint8_t byte) { return byte & 15; }
int high(std::uint8_t byte) { return byte >> 4; }
int two_bits(std::uint8_t byte, int index) { return (byte >> (2 * index)) & 3; }
int bit(Block bits, int index) { return (bits[index / 8] >> (index % 8)) & 1; }

void f32(Block block, float* out) { std::memcpy(out, block, sizeof *out); }

void f16_weight(Block block, float* out) { *out = f16(block); }

void bf16(Block block, float* out) {
  std::uint16_t half = 0;
  std::memcpy(&half, block, sizeof half);
  *out = f32_from_bf16(half);
}

// ---- 32 weights -----------------------------------------------------------------------------------------------------

// d f16, nibbles [16]
void q4_0(Block block, float* out) {
  const float d = f16(block);
  const Block nibbles = block + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(nibbles[i]) - 8);
    out[16 + i] = d * static_cast<float>(high(nibbles[i]) - 8);
  }
}

// d f16, m f16, nibbles [16]
void q4_1(Block block, float* out) {
  const float d = f16(block);
  const float m = f16(block + 2);
  const Block nibbles = block + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(nibbles[i])) + m;
    out[16 + i] = d * static_cast<float>(high(nibbles[i])) + m;
  }
}

// d f16, fifth bits [32 bits], nibbles [16]
void q5_0(Block block, float* out) {
  const float d = f16(block);
  const Block fifth = block + 2;
  const Block nibbles = block + 6;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((low(nibbles[i]) | bit(fifth, i) << 4) - 16);
    out[16 + i] = d * static_cast<float>((high(nibbles[i]) | bit(fifth, 16 + i) << 4) - 16);
  }
}

// d f16, m f16, fifth bits [32 bits], nibbles [16]
void q5_1(Block block, float* out) {
  const float d = f16(block);
  const float m = f16(block + 2);
  const Block fifth = block + 4;
  const Block nibbles = block + 8;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(nibbles[i]) | bit(fifth, i) << 4) + m;
    out[16 + i] = d * static_cast<float>(high(nibbles[i]) | bit(fifth, 16 + i) << 4) + m;
  }
}

// d f16, weights int8 [32]
void q8_0(Block block, float* out) {
  const float d = f16(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + i]));
}

// d f16, nibbles [16] that index a table of unequal steps
void iq4_nl(Block block, float* out) {
  constexpr std::array<float, 16> kValues = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const float d = f16(block);
  const Block nibbles = block + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kValues[static_cast<std::size_t>(low(nibbles[i]))];
    out[16 + i] = d * kValues[static_cast<std::size_t>(high(nibbles[i]))];
  }
}

// Half of 2^(exponent - 127): the MXFP4 table holds doubled values so that it is of integers.
float half_power(std::uint8_t exponent) {
  if (exponent < 2) return std::bit_cast<float>(0x00200000U << exponent);  // subnormal
  return std::bit_cast<float>((exponent - 1U) << 23);
}

// exponent u8 (E8M0), nibbles [16] of E2M1
void mxfp4(Block block, float* out) {
  constexpr std::array<float, 16> kDoubled = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const float d = half_power(block[0]);
  const Block nibbles = block + 1;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kDoubled[static_cast<std::size_t>(low(nibbles[i]))];
    out[16 + i] = d * kDoubled[static_cast<std::size_t>(high(nibbles[i]))];
  }
}

// ---- 256 weights, in groups with scales of their own ----------------------------------------------------------------

// scales [16]: scale in the low half, minimum in the high half, of 16 weights each; two bits [2 halves][32 bytes], of
// which byte l holds weights l, 32 + l, 64 + l and 96 + l of its half; d f16; dmin f16
void q2_k(Block block, float* out) {
  const Block scales = block;
  const Block quants = block + 16;
  const float d = f16(block + 80);
  const float dmin = f16(block + 82);
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t scale = scales[i / 16];
    const int q = two_bits(quants[i / 128 * 32 + i % 32], i / 32 % 4);
    out[i] = (d * static_cast<float>(low(scale))) * static_cast<float>(q) - dmin * static_cast<float>(high(scale));
  }
}

// The six-bit scale of 16 weights: four low bits in bytes 0..7, two high bits in bytes 8..11.
int q3_k_scale(Block scales, int group) {
  const int four = group < 8 ? low(scales[group]) : high(scales[group - 8]);
  return (four | two_bits(scales[8 + group % 4], group / 4) << 4) - 32;
}

// third bits [32 bytes], byte l holding those of weights l, 32 + l, 64 + l, …, where a clear bit means minus 4; two
// bits [64] as in Q2_K; scales [12]; d f16
void q3_k(Block block, float* out) {
  const Block third = block;
  const Block quants = block + 32;
  const Block scales = block + 96;
  const float d = f16(block + 108);
  for (int i = 0; i < 256; ++i) {
    const int two = two_bits(quants[i / 128 * 32 + i % 32], i / 32 % 4);
    const int q = two - ((third[i % 32] >> (i / 32)) & 1 ? 0 : 4);
    out[i] = (d * static_cast<float>(q3_k_scale(scales, i / 16))) * static_cast<float>(q);
  }
}

struct ScaleMin {
  float scale, min;
};

// Six-bit scales and minima of 8 groups in 12 bytes: those of groups 0..3 in the low bits of bytes 0..3 and 4..7; those
// of groups 4..7 have four bits in bytes 8..11 and two in the free high bits of bytes 0..7.
ScaleMin q4_k_scale(Block scales, int group) {
  if (group < 4) return {static_cast<float>(scales[group] & 63), static_cast<float>(scales[group + 4] & 63)};
  const int scale = low(scales[group + 4]) | (scales[group - 4] >> 6) << 4;
  const int min = high(scales[group + 4]) | (scales[group] >> 6) << 4;
  return {static_cast<float>(scale), static_cast<float>(min)};
}

// d f16, dmin f16, scales [12], nibbles [4][32]: low halves are 32 weights, high halves the next 32
void q4_k(Block block, float* out) {
  const float d = f16(block);
  const float dmin = f16(block + 2);
  const Block nibbles = block + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin factor = q4_k_scale(block + 4, group);
    const float scale = d * factor.scale;
    const float min = dmin * factor.min;
    for (int i = 0; i < 32; ++i) {
      const std::uint8_t pair = nibbles[group / 2 * 32 + i];
      const int q = group % 2 == 0 ? low(pair) : high(pair);
      out[group * 32 + i] = scale * static_cast<float>(q) - min;
    }
  }
}

// d f16, dmin f16, scales [12], fifth bits [32] laid out as Q3_K's third bits, nibbles [4][32] as in Q4_K
void q5_k(Block block, float* out) {
  const float d = f16(block);
  const float dmin = f16(block + 2);
  const Block fifth = block + 16;
  const Block nibbles = block + 48;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin factor = q4_k_scale(block + 4, group);
    const float scale = d * factor.scale;
    const float min = dmin * factor.min;
    for (int i = 0; i < 32; ++i) {
      const std::uint8_t pair = nibbles[group / 2 * 32 + i];
      const int q = (group % 2 == 0 ? low(pair) : high(pair)) | ((fifth[i] >> group) & 1) << 4;
      out[group * 32 + i] = scale * static_cast<float>(q) - min;
    }
  }
}

// nibbles [2][64]: low halves are 64 weights, high halves the next 64; two high bits [2][32] as in Q2_K; scales int8
// [16]; d f16
void q6_k(Block block, float* out) {
  const Block nibbles = block;
  const Block top = block + 128;
  const Block scales = block + 192;
  const float d = f16(block + 208);
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t pair = nibbles[i / 128 * 64 + i % 64];
    const int four = i / 64 % 2 == 0 ? low(pair) : high(pair);
    const int q = (four | two_bits(top[i / 128 * 32 + i % 32], i / 32 % 4) << 4) - 32;
    out[i] = (d * static_cast<float>(static_cast<std::int8_t>(scales[i / 16]))) * static_cast<float>(q);
  }
}

template <void (*one_block)(Block, float*)>
void blocks(TensorType type, std::span<const std::byte> row, std::span<float> out) {
  const auto weights = static_cast<std::size_t>(block_weights(type));
  const std::size_t bytes = block_bytes(type);
  assert(out.size() % weights == 0 && row.size() == out.size() / weights * bytes);
  const auto* from = reinterpret_cast<Block>(row.data());
  for (std::size_t i = 0; i < out.size(); i += weights, from += bytes) one_block(from, out.data() + i);
}

}  // namespace

void dequantize(TensorType type, std::span<const std::byte> row, std::span<float> out) {
  switch (type) {
    case TensorType::kF32:
      return blocks<f32>(type, row, out);
    case TensorType::kF16:
      return blocks<f16_weight>(type, row, out);
    case TensorType::kBF16:
      return blocks<bf16>(type, row, out);
    case TensorType::kQ4_0:
      return blocks<q4_0>(type, row, out);
    case TensorType::kQ4_1:
      return blocks<q4_1>(type, row, out);
    case TensorType::kQ5_0:
      return blocks<q5_0>(type, row, out);
    case TensorType::kQ5_1:
      return blocks<q5_1>(type, row, out);
    case TensorType::kQ8_0:
      return blocks<q8_0>(type, row, out);
    case TensorType::kQ2_K:
      return blocks<q2_k>(type, row, out);
    case TensorType::kQ3_K:
      return blocks<q3_k>(type, row, out);
    case TensorType::kQ4_K:
      return blocks<q4_k>(type, row, out);
    case TensorType::kQ5_K:
      return blocks<q5_k>(type, row, out);
    case TensorType::kQ6_K:
      return blocks<q6_k>(type, row, out);
    case TensorType::kIQ4_NL:
      return blocks<iq4_nl>(type, row, out);
    case TensorType::kMXFP4:
      return blocks<mxfp4>(type, row, out);
  }
}

}  // namespace lamina
