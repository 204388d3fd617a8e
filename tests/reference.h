// SPDX-License-Identifier: Apache-2.0
// The judge of attention: softmax over decoded rows in double precision, one query head at a time, written to be
// obviously right. Also gives the eager attention mass, the weight of every row.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/half.h"
#include "kv/bits/encode.h"
#include "kv/segment.h"

namespace lamina::reference {

struct Result {
  std::vector<double> out;  // [head_dim]
  double lse = -std::numeric_limits<double>::infinity();
  std::vector<double> mass{};  // [rows of all segments in turn], 0 where invisible
};

// Rotates by definition; the library's Rope is judged by its own test.
inline std::vector<double> rotated(const RopeConfig& rope, std::vector<double> x, Pos pos) {
  for (int i = 0; i < rope.dims / 2; ++i) {
    const double angle = pos * std::pow(rope.base, -2.0 * i / rope.dims);
    double& a = rope.interleaved ? x[2 * i] : x[i];
    double& b = rope.interleaved ? x[2 * i + 1] : x[i + rope.dims / 2];
    const double turned = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = turned;
  }
  return x;
}

inline std::vector<double> row_of(const BlockMemory& memory, RowKind kind, const Segment& s, int head_dim,
                                  std::uint32_t row) {
  const bool key = kind == RowKind::kKey;
  const RowPlanes planes{memory,
                         kind,
                         key ? s.k_format : s.v_format,
                         head_dim,
                         key ? s.k_codes : s.v_codes,
                         key ? s.k_scales : s.v_scales};
  std::vector<float> x(static_cast<std::size_t>(head_dim));
  read_row(planes, row, x.data());
  return {x.begin(), x.end()};
}

inline double gain(const BlockMemory& memory, const Plane& gains, std::uint32_t row) {
  if (!gains) return 1;
  return f32_from_f16(reinterpret_cast<const std::uint16_t*>(gains.tile(memory, row / kTileRows))[row % kTileRows]);
}

inline bool visible(const Visibility& sees, Pos row, Pos query) {
  if (row > query || (sees.lagged && row == query)) return false;
  return sees.window == 0 || row > query - sees.window;
}

inline bool is_dead(const Segment& s, std::uint32_t row) {
  return s.dead != nullptr && (s.dead[row / kTileRows - s.first / kTileRows] >> row % kTileRows & 1) != 0;
}

// The rows of one KV head, decoded.
struct Row {
  Pos pos, shift;
  bool dead;
  double k_gain, v_gain;
  std::vector<double> key, value;
};
inline std::vector<Row> decoded(const BlockMemory& memory, int head_dim, std::span<const Segment> segments) {
  std::vector<Row> rows;
  for (const Segment& s : segments)
    for (std::uint32_t r = s.first; r < s.last; ++r)
      rows.push_back({s.pos[r - s.first], s.shift, is_dead(s, r), gain(memory, s.k_gains, r),
                      gain(memory, s.v_gains, r), row_of(memory, RowKind::kKey, s, head_dim, r),
                      row_of(memory, RowKind::kValue, s, head_dim, r)});
  return rows;
}

// q: one head of one token, not rotated.
inline Result attend(const AttentionShape& shape, const RopeConfig& rope, std::span<const float> q, Pos pos,
                     std::span<const Row> rows, const Visibility& sees = {}) {
  Result result{std::vector<double>(q.size(), 0.0)};
  std::vector<double> scores(rows.size(), -std::numeric_limits<double>::infinity());
  std::vector<double> turned;
  double max = -std::numeric_limits<double>::infinity();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (r == 0 || rows[r].shift != rows[r - 1].shift) turned = rotated(rope, {q.begin(), q.end()}, pos - rows[r].shift);
    if (rows[r].dead || !visible(sees, rows[r].pos, pos)) continue;
    scores[r] = 0;
    for (std::size_t c = 0; c < turned.size(); ++c) scores[r] += turned[c] * rows[r].key[c];
    scores[r] *= shape.scale * rows[r].k_gain;
    max = std::max(max, scores[r]);
  }
  result.mass.assign(rows.size(), 0.0);
  if (std::isinf(max)) return result;
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - max);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    result.mass[r] = std::exp(scores[r] - max) / sum;
    for (std::size_t c = 0; c < q.size(); ++c) result.out[c] += result.mass[r] * rows[r].v_gain * rows[r].value[c];
  }
  result.lse = max + std::log(sum);
  return result;
}

inline Result attend(const BlockMemory& memory, const AttentionShape& shape, const RopeConfig& rope,
                     std::span<const float> q, Pos pos, std::span<const Segment> segments) {
  return attend(shape, rope, q, pos, decoded(memory, shape.head_dim, segments));
}

}  // namespace lamina::reference
