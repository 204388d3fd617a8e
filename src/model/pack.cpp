// SPDX-License-Identifier: Apache-2.0
#include "model/pack.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "model/dequant.h"

// Layouts of the file's blocks are in dequant.cpp. Types that keep their codes are re-ordered without a detour through
// floats: a model must load in a fraction of a second.

namespace lamina {
namespace {

using Bytes = const std::uint8_t*;

struct Block4 {              // 32 weights in W4
  std::uint8_t codes[16];    // weight c in the low half of byte c, weight c + 16 in the high half
  std::uint16_t scale, min;  // f16
};

constexpr std::uint16_t kNotFinite = 0x7c00;  // the f16 infinity, as the scale of a block that holds no numbers

struct Block8 {            // 32 weights in W8
  std::uint8_t codes[32];  // offset by 128
  std::uint16_t scale;     // f16
};

std::uint16_t half_at(Bytes p) {
  std::uint16_t half = 0;
  std::memcpy(&half, p, sizeof half);
  return half;
}
float f16_at(Bytes p) { return f32_from_f16(half_at(p)); }

// ---- W4: `part` is the group of 32 weights within a block ----------------------------------------------------------

void q4_0(Bytes block, int, Block4& out) {
  std::memcpy(out.codes, block + 2, 16);
  out.scale = half_at(block);
  out.min = f16_from_f32(-8 * f32_from_f16(out.scale));
}

void q4_1(Bytes block, int, Block4& out) {
  std::memcpy(out.codes, block + 4, 16);
  out.scale = half_at(block);
  out.min = half_at(block + 2);
}

struct ScaleMin {
  int scale, min;
};

ScaleMin q4_k_scale(Bytes scales, int part) {
  if (part < 4) return {scales[part] & 63, scales[part + 4] & 63};
  return {(scales[part + 4] & 15) | scales[part - 4] >> 6 << 4, scales[part + 4] >> 4 | scales[part] >> 6 << 4};
}

void q4_k(Bytes block, int part, Block4& out) {
  const auto [scale, min] = q4_k_scale(block + 4, part);
  out.scale = f16_from_f32(f16_at(block) * static_cast<float>(scale));
  out.min = f16_from_f32(-f16_at(block + 2) * static_cast<float>(min));
  const Bytes nibbles = block + 16 + part / 2 * 32;
  const int shift = part % 2 * 4;
  for (int c = 0; c < 16; ++c)
    out.codes[c] = static_cast<std::uint8_t>((nibbles[c] >> shift & 15) | (nibbles[c + 16] >> shift & 15) << 4);
}

// ---- W8 -------------------------------------------------------------------------------------------------------------

void q8_0(Bytes block, int, Block8& out) {
  for (int c = 0; c < 32; ++c) out.codes[c] = block[2 + c] ^ 0x80;
  out.scale = half_at(block);
}

void q5_0(Bytes block, int, Block8& out) {
  std::uint32_t fifth = 0;
  std::memcpy(&fifth, block + 2, sizeof fifth);
  for (int c = 0; c < 16; ++c) {
    out.codes[c] = static_cast<std::uint8_t>(((block[6 + c] & 15) | (fifth >> c & 1) << 4) + 112);
    out.codes[c + 16] = static_cast<std::uint8_t>((block[6 + c] >> 4 | (fifth >> (c + 16) & 1) << 4) + 112);
  }
  out.scale = half_at(block);
}

void from_table(const std::int8_t (&table)[16], Bytes nibbles, Block8& out) {
  for (int c = 0; c < 16; ++c) {
    out.codes[c] = static_cast<std::uint8_t>(table[nibbles[c] & 15] + 128);
    out.codes[c + 16] = static_cast<std::uint8_t>(table[nibbles[c] >> 4] + 128);
  }
}

void iq4_nl(Bytes block, int, Block8& out) {
  constexpr std::int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  from_table(kValues, block + 2, out);
  out.scale = half_at(block);
}

// The scale is 2^(exponent - 128), as the table holds doubled values.
constexpr int kMxfp4Bias = 128;
bool is_f16(int mxfp4_exponent) { return mxfp4_exponent >= kMxfp4Bias - 24 && mxfp4_exponent <= kMxfp4Bias + 15; }

void mxfp4(Bytes block, int, Block8& out) {
  constexpr std::int8_t kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  from_table(kDoubled, block + 1, out);
  out.scale = f16_from_f32(std::ldexp(1.0F, block[0] - kMxfp4Bias));
}

int q3_k_scale(Bytes scales, int group) {
  const int four = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
  return (four | (scales[8 + group % 4] >> (2 * (group / 4)) & 3) << 4) - 32;
}

void q3_k(Bytes block, int part, Block8& out) {
  int products[32];
  int largest = 0;
  for (int c = 0; c < 32; ++c) {
    const int two = block[32 + part / 4 * 32 + c] >> (2 * (part % 4)) & 3;
    const int q = two - ((block[c] >> part & 1) != 0 ? 0 : 4);
    products[c] = q3_k_scale(block + 96, part * 2 + c / 16) * q;
    largest = std::max(largest, products[c]);
  }
  const int sign = largest > 127 ? -1 : 1;
  for (int c = 0; c < 32; ++c) out.codes[c] = static_cast<std::uint8_t>(sign * products[c] + 128);
  out.scale = static_cast<std::uint16_t>(half_at(block + 108) ^ (sign < 0 ? 0x8000U : 0U));
}

void requantize(const float* w, Block8& out) {
  float largest = 0;
  for (int c = 0; c < 32; ++c) largest = std::max(largest, std::fabs(w[c]));
  out.scale = f16_from_f32(largest / 127);
  const float scale = f32_from_f16(out.scale);
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (int c = 0; c < 32; ++c) {  // adding 1.5 * 2^23 rounds to the nearest integer
    const float code = std::clamp(w[c] * inverse, -127.0F, 127.0F) + 0x1.8p23F - 0x1.8p23F;
    out.codes[c] = static_cast<std::uint8_t>(static_cast<int>(code) + 128);
  }
}

// ---- into panels ----------------------------------------------------------------------------------------------------

// Byte 4 * word + i of a row's block goes to byte i of the row's lane in vector `word`.
void place(const std::uint8_t* codes, int words, int lane, std::byte* vectors) {
  for (int word = 0; word < words; ++word) std::memcpy(vectors + 64 * word + 4 * lane, codes + 4 * word, 4);
}

void place(const Block4& block, int lane, std::byte* out) {
  std::memcpy(out + 2 * lane, &block.scale, 2);
  std::memcpy(out + 32 + 2 * lane, &block.min, 2);
  place(block.codes, 4, lane, out + 64);
}

void place(const Block8& block, int lane, std::byte* out) {
  std::memcpy(out + 2 * lane, &block.scale, 2);
  place(block.codes, 8, lane, out + 32);
}

struct Row {
  std::span<const std::byte> data;
  std::int64_t cols;
  TensorType type;
};

template <class Block, void (*convert)(Bytes, int, Block&)>
void pack_codes(const Row& row, WeightFormat format, int lane, std::byte* out) {
  const int parts = block_weights(row.type) / kBlockCols;
  const std::size_t bytes = block_bytes(row.type);
  Block block;
  for (auto from = reinterpret_cast<Bytes>(row.data.data()), end = from + row.data.size(); from != end; from += bytes)
    for (int part = 0; part < parts; ++part, out += step_bytes(format)) {
      convert(from, part, block);
      place(block, lane, out);
    }
}

void pack_requantized(const Row& row, int lane, std::byte* out) {
  std::vector<float> weights(static_cast<std::size_t>(row.cols));
  dequantize(row.type, row.data, weights);
  Block8 block;
  for (std::size_t c = 0; c < weights.size(); c += kBlockCols, out += step_bytes(WeightFormat::kW8)) {
    requantize(&weights[c], block);
    const bool finite = std::all_of(&weights[c], &weights[c] + kBlockCols, [](float w) { return std::isfinite(w); });
    if (!finite) block.scale = kNotFinite;
    place(block, lane, out);
  }
}

template <class T>
void pack_floats(std::span<const std::byte> values, int lane, std::byte* out) {
  for (std::size_t c = 0; c < values.size() / sizeof(T); ++c)
    std::memcpy(out + (c * kPanelRows + static_cast<std::size_t>(lane)) * sizeof(T), &values[c * sizeof(T)], sizeof(T));
}

void pack_as_bf16(const Row& row, int lane, std::byte* out) {
  std::vector<float> weights(static_cast<std::size_t>(row.cols));
  dequantize(row.type, row.data, weights);
  std::vector<std::uint16_t> halves(weights.size());
  std::transform(weights.begin(), weights.end(), halves.begin(), bf16_from_f32);
  pack_floats<std::uint16_t>(std::as_bytes(std::span(halves)), lane, out);
}

void pack_row(const Row& row, WeightFormat format, int lane, std::byte* out) {
  switch (row.type) {
    case TensorType::kF32:
      return pack_floats<float>(row.data, lane, out);
    case TensorType::kF16:
    case TensorType::kBF16:
      return pack_floats<std::uint16_t>(row.data, lane, out);
    case TensorType::kQ4_0:
      return pack_codes<Block4, q4_0>(row, format, lane, out);
    case TensorType::kQ4_1:
      return pack_codes<Block4, q4_1>(row, format, lane, out);
    case TensorType::kQ4_K:
      return pack_codes<Block4, q4_k>(row, format, lane, out);
    case TensorType::kQ5_0:
      return pack_codes<Block8, q5_0>(row, format, lane, out);
    case TensorType::kQ8_0:
      return pack_codes<Block8, q8_0>(row, format, lane, out);
    case TensorType::kQ3_K:
      return pack_codes<Block8, q3_k>(row, format, lane, out);
    case TensorType::kIQ4_NL:
      return pack_codes<Block8, iq4_nl>(row, format, lane, out);
    case TensorType::kMXFP4:
      if (format == WeightFormat::kBF16) return pack_as_bf16(row, lane, out);
      return pack_codes<Block8, mxfp4>(row, format, lane, out);
    case TensorType::kQ5_1:
    case TensorType::kQ2_K:
    case TensorType::kQ5_K:
    case TensorType::kQ6_K:
      return pack_requantized(row, lane, out);
  }
}

bool all_scales_are_f16(std::span<const std::byte> mxfp4_blocks) {
  const std::size_t bytes = block_bytes(TensorType::kMXFP4);
  for (std::size_t i = 0; i < mxfp4_blocks.size(); i += bytes)
    if (!is_f16(std::to_integer<int>(mxfp4_blocks[i]))) return false;
  return true;
}

}  // namespace

WeightFormat packed_format(const TensorView& tensor) {
  switch (tensor.type) {
    case TensorType::kF32:
      return WeightFormat::kF32;
    case TensorType::kF16:
      return WeightFormat::kF16;
    case TensorType::kBF16:
      return WeightFormat::kBF16;
    case TensorType::kQ4_0:
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
      return WeightFormat::kW4;
    case TensorType::kMXFP4:
      return all_scales_are_f16(tensor.data) ? WeightFormat::kW8 : WeightFormat::kBF16;
    default:
      return WeightFormat::kW8;
  }
}

std::size_t panel_bytes(WeightFormat format, std::int64_t cols) {
  return static_cast<std::size_t>(is_integer(format) ? cols / kBlockCols : cols) * step_bytes(format);
}

void pack_panel(const TensorView& tensor, WeightFormat format, std::int64_t panel, std::byte* out) {
  const std::int64_t rows = std::min<std::int64_t>(kPanelRows, tensor.rows() - panel * kPanelRows);
  const std::size_t row_bytes = tensor.data.size() / static_cast<std::size_t>(tensor.rows());
  if (rows < kPanelRows) std::memset(out, 0, panel_bytes(format, tensor.cols()));
  for (int lane = 0; lane < rows; ++lane) {
    const std::size_t at = static_cast<std::size_t>(panel * kPanelRows + lane) * row_bytes;
    pack_row({tensor.data.subspan(at, row_bytes), tensor.cols(), tensor.type}, format, lane, out);
  }
}

bool panel_is_finite(WeightFormat format, std::int64_t cols, const std::byte* panel) {
  // An infinity or a NaN has all exponent bits set. The numbers stand at the start of each step, 16 or 32 of them.
  const bool wide = format == WeightFormat::kF32;
  const std::uint32_t exponent = wide ? 0x7f800000U : format == WeightFormat::kBF16 ? 0x7f80U : 0x7c00U;
  const std::size_t bytes = wide ? 4 : 2, numbers = format == WeightFormat::kW4 ? 2 * kPanelRows : kPanelRows;
  const std::byte* const end = panel + panel_bytes(format, cols);
  for (; panel != end; panel += step_bytes(format))
    for (std::size_t i = 0; i < numbers; ++i) {
      std::uint32_t number = 0;
      std::memcpy(&number, panel + i * bytes, bytes);
      if ((number & exponent) == exponent) return false;
    }
  return true;
}

}  // namespace lamina
