// SPDX-License-Identifier: Apache-2.0
// Tensors of random codes in every type, and what packed matrices stand for: for the tests of packing and of products.
#pragma once
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "model/dequant.h"
#include "model/matrix.h"

namespace lamina {

constexpr TensorType kAllTypes[] = {TensorType::kF32,  TensorType::kF16,    TensorType::kBF16, TensorType::kQ4_0,
                                    TensorType::kQ4_1, TensorType::kQ5_0,   TensorType::kQ5_1, TensorType::kQ8_0,
                                    TensorType::kQ2_K, TensorType::kQ3_K,   TensorType::kQ4_K, TensorType::kQ5_K,
                                    TensorType::kQ6_K, TensorType::kIQ4_NL, TensorType::kMXFP4};

// A tensor that owns its bytes.
struct Tensor {
  std::vector<std::byte> data;
  TensorView view;
};

inline void put_half(std::vector<std::byte>& data, std::size_t at, float value) {
  const std::uint16_t half = f16_from_f32(value);
  std::memcpy(&data[at], &half, 2);
}

inline Matrix packed(const TensorView& view, ThreadPool& pool) {
  HugePages memory(0);  // a sanitizer sees the end of each
  return Matrix::pack(view, pool, memory);
}

// Where a block's f16 scale and minimum lie, -1 for none.
struct ScaleOffsets {
  int scale, min;
};
inline ScaleOffsets scale_offsets(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    case TensorType::kQ2_K:
      return {80, 82};
    case TensorType::kQ3_K:
      return {108, -1};
    case TensorType::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

// Random codes with scales of the size that real models have (d about 0.01, K types smaller).
inline Tensor random_tensor(TensorType type, std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.3F, 1.0F);
  Tensor t;
  const auto blocks = static_cast<std::size_t>(rows * cols / block_weights(type));
  const std::size_t bytes = block_bytes(type);
  t.data.resize(blocks * bytes);
  for (auto& b : t.data) b = static_cast<std::byte>(random() & 0xff);
  for (std::size_t i = 0; i < blocks; ++i) {
    const float value = uniform(random) * (random() % 2 == 0 ? 1.0F : -1.0F);
    if (type == TensorType::kF32) std::memcpy(&t.data[i * bytes], &value, 4);
    if (type == TensorType::kF16) put_half(t.data, i * bytes, value);
    if (type == TensorType::kBF16) {
      const std::uint16_t half = bf16_from_f32(value);
      std::memcpy(&t.data[i * bytes], &half, 2);
    }
    if (type == TensorType::kMXFP4) t.data[i * bytes] = static_cast<std::byte>(118 + random() % 6);
    if (block_weights(type) == 1 || type == TensorType::kMXFP4) continue;
    const auto [scale, min] = scale_offsets(type);
    const float size = block_weights(type) == 256 ? 0.001F : 0.02F;
    put_half(t.data, i * bytes + static_cast<std::size_t>(scale), size * std::abs(value));
    if (min >= 0) put_half(t.data, i * bytes + static_cast<std::size_t>(min), size * 6 * value);
  }
  t.view = {.name = "w", .type = type, .shape = {rows, cols}, .data = t.data};
  return t;
}

inline std::vector<float> dequantized(const TensorView& t) {
  std::vector<float> out(static_cast<std::size_t>(t.rows() * t.cols()));
  const auto cols = static_cast<std::size_t>(t.cols());
  const std::size_t bytes = t.data.size() / static_cast<std::size_t>(t.rows());
  for (std::size_t r = 0; r < static_cast<std::size_t>(t.rows()); ++r)
    dequantize(t.type, t.data.subspan(r * bytes, bytes), std::span(out).subspan(r * cols, cols));
  return out;
}

// The weights that a packed matrix stands for, read from its panels as kernels.h describes them.
inline float packed_weight(const Matrix& m, std::int64_t row, std::int64_t col) {
  const std::byte* panel = m.panels(static_cast<int>(row / kPanelRows), m.panels()).bytes;
  const auto lane = static_cast<std::size_t>(row % kPanelRows);
  const auto half = [](const std::byte* p) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, p, 2);
    return bits;
  };
  const std::byte* step =
      panel + static_cast<std::size_t>(is_integer(m.format()) ? col / kBlockCols : col) * step_bytes(m.format());
  const auto c = static_cast<std::size_t>(col % kBlockCols);
  switch (m.format()) {
    case WeightFormat::kF32: {
      float value = 0;
      std::memcpy(&value, step + 4 * lane, 4);
      return value;
    }
    case WeightFormat::kF16:
      return f32_from_f16(half(step + 2 * lane));
    case WeightFormat::kBF16:
      return f32_from_bf16(half(step + 2 * lane));
    case WeightFormat::kW8: {
      const int code = std::to_integer<int>(step[32 + c / 4 * 64 + lane * 4 + c % 4]) - 128;
      return f32_from_f16(half(step + 2 * lane)) * static_cast<float>(code);
    }
    case WeightFormat::kW4: {
      const int both = std::to_integer<int>(step[64 + c % 16 / 4 * 64 + lane * 4 + c % 4]);
      const int code = c < 16 ? both & 15 : both >> 4;
      return f32_from_f16(half(step + 2 * lane)) * static_cast<float>(code) + f32_from_f16(half(step + 32 + 2 * lane));
    }
  }
  return 0;
}

inline std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (auto& v : out) v = normal(random);
  return out;
}

}  // namespace lamina
