// SPDX-License-Identifier: Apache-2.0
// What the naive model of a KvSequence keeps of a row.
#pragma once
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "kv/bits/encode.h"
#include "kv/types.h"

namespace lamina::testing {

inline void check(bool ok, const std::string& what) {
  if (!ok) throw std::logic_error("kv ops: " + what);
}

// One row of one head through `format` and back.
inline std::vector<float> through(RowKind kind, Format format, const std::vector<float>& row) {
  const int dim = static_cast<int>(row.size());
  std::vector<std::byte> memory(2 * code_tile_bytes(Format::kF32, dim) + 128);
  const auto at = (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  const BlockId blocks[2] = {0, 1};
  const std::size_t block_bytes = (code_tile_bytes(Format::kF32, dim) + 63) / 64 * 64;
  RowPlanes planes{.memory = {.base = memory.data() + at, .block_bytes = block_bytes},
                   .kind = kind,
                   .format = format,
                   .head_dim = dim,
                   .codes = {.blocks = blocks, .tile_bytes = static_cast<std::uint32_t>(code_tile_bytes(format, dim))},
                   .scales = {}};
  if (has_scales(format))
    planes.scales = {.blocks = blocks + 1, .tile_bytes = static_cast<std::uint32_t>(scale_tile_bytes(format, dim))};
  write_rows(planes, 3, row.data(), row.size(), 1);
  std::vector<float> out(row.size());
  read_row(planes, 3, out.data());
  return out;
}

// One tensor of one row: what the layer, or each layer of a pair, must see of it.
struct NaiveTensor {
  bool merged = false;
  std::vector<std::vector<float>> codes[2];  // [view][head][channel], what the segments' codes say
  std::vector<double> gains[2];              // [view][head]
};
struct NaiveRow {
  Pos pos = 0;
  bool exact = true;  // not yet encoded
  bool raw = true;    // as appended, not yet merged
  NaiveTensor k, v;
  std::vector<double> mass{};  // [reader][head][column], what queries gave it; empty: zeros
};
// The rows that live and die together: of one KV head, or of all heads of a slot.
struct NaiveSet {
  int first_head = 0, heads = 0;
  int columns = 0;       // sums of a row that the store has room for
  std::uint8_t tag = 0;  // what the policy remembers
  std::vector<NaiveRow> rows{};
};

// What the queries of one layer gave a row.
struct NaiveSeen {
  LayerId layer{};
  int head = 0;
  Pos pos = 0;
  int token = 0;  // of the step
  int column = 0;
  double weight = 0;
};

inline float norm(const std::vector<float>& x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0F));
}

}  // namespace lamina::testing
