// SPDX-License-Identifier: Apache-2.0
// Random rows and queries of one sequence, in runs of every kind, for tests of attention.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "reference.h"
#include "stored_rows.h"

namespace lamina {

struct RunRows {
  int rows = 0;
  std::uint32_t first = 0;
  Pos shift = 0;
  bool gains = false;
  bool dead = false;  // one row in three, the first and the last included
};

struct Case {
  Format k = Format::kF32, v = Format::kF32;
  int heads = 3, kv_heads = 1, head_dim = 64;
  int tokens = 1;
  std::vector<RunRows> runs{{100}};
  Pos window = 0;
  bool lagged = false;
  Pos gap = 1;     // between the positions of rows
  int behind = 0;  // the queries are this many positions behind the rows' end
  std::uint32_t seed = 1;
};

// The rows and queries of one sequence, all of them random.
class Sequence {
 public:
  explicit Sequence(const Case& c, BlockArena& arena)
      : tokens_(c.tokens), heads_(c.heads), d_(c.head_dim), sees_{c.window, c.lagged} {
    std::mt19937 random(c.seed);
    const auto d = static_cast<std::size_t>(d_);
    Pos end = 0;
    for (int h = 0; h < c.kv_heads; ++h) {
      Pos pos = 0;
      std::vector<Segment> segments;
      for (const RunRows& run : c.runs) {
        const auto n = static_cast<std::size_t>(run.rows);
        std::vector<Pos> positions;
        positions.reserve(n);
        for (int i = 0; i < run.rows; ++i) positions.push_back(pos += c.gap);
        RunOptions options{c.k, c.v, c.head_dim, run.first, run.shift, {}, {}};
        if (run.gains) options.k_gains = gains(random, n), options.v_gains = gains(random, n);
        segments.push_back(store_rows(arena, options, random_floats(random, n * d), random_floats(random, n * d),
                                      std::move(positions)));
        if (run.dead) segments.back().dead = dead_rows(random, segments.back());
      }
      end = pos;
      segments_.push_back(std::move(segments));
    }
    for (int t = 0; t < tokens_; ++t) pos_.push_back(std::max(0, end - tokens_ - c.behind) + t + 1);
    q_ = random_floats(random, area(tokens_, heads_) * d);
    for (const auto& s : segments_) spans_.emplace_back(s);
    out_.assign(q_.size(), -1.0F);
    lse_.assign(area(tokens_, heads_), -1.0F);
  }
  Query query() { return query(0, tokens_); }
  Query query(int first, int tokens) {  // of some of the tokens
    const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(first) * heads_;
    return {.q = q_.data() + row * d_,
            .pos = std::span<const Pos>(pos_).subspan(first, tokens),
            .segments = spans_,
            .out = out_.data() + row * d_,
            .sees = sees_,
            .lse = lse_.data() + row};
  }
  const std::vector<float>& out() const { return out_; }
  const std::vector<float>& lse() const { return lse_; }
  std::vector<Segment>& segments(int kv_head) { return segments_[kv_head]; }

  // The largest difference of output and log-sum-exp from the reference; infinite where only one is finite.
  double worst(const BlockMemory& memory, const AttentionShape& shape, const RopeConfig& rope) const {
    double worst = 0;
    std::vector<std::vector<reference::Row>> rows;  // [kv_head]
    rows.reserve(spans_.size());
    for (const auto& segments : spans_) rows.push_back(reference::decoded(memory, d_, segments));
    for (int i = 0; i < tokens_ * heads_; ++i) {
      const std::span<const float> q{q_.data() + static_cast<std::ptrdiff_t>(i) * d_, static_cast<std::size_t>(d_)};
      const auto want =
          reference::attend(shape, rope, q, pos_[i / heads_], rows[i % heads_ / (shape.heads / shape.kv_heads)], sees_);
      for (int c = 0; c < d_; ++c) {
        const double error = std::fabs(out_[i * d_ + c] - want.out[c]);
        worst = std::isnan(error) ? INFINITY : std::max(worst, error);
      }
      if (std::isinf(want.lse) || std::isinf(lse_[i]))
        worst = want.lse == lse_[i] ? worst : INFINITY;
      else
        worst = std::max(worst, std::fabs(lse_[i] - want.lse));
      for (int c = 0; c < d_ && std::isinf(want.lse); ++c) EXPECT_EQ(out_[i * d_ + c], 0.0F);
    }
    return worst;
  }

 private:
  static std::vector<float> gains(std::mt19937& random, std::size_t n) {
    std::vector<float> x(n);
    for (float& g : x) g = std::uniform_real_distribution<float>(0.3F, 2)(random);
    return x;
  }
  const std::uint16_t* dead_rows(std::mt19937& random, const Segment& segment) {
    std::vector<std::uint16_t>& bits = dead_.emplace_back(segment.range().tiles());
    for (std::uint32_t row = segment.first; row < segment.last; ++row)
      if (row == segment.first || row + 1 == segment.last || random() % 3 == 0)
        bits[row / kTileRows - segment.first_tile()] |= static_cast<std::uint16_t>(1U << row % kTileRows);
    return bits.data();
  }
  int tokens_, heads_, d_;
  Visibility sees_;
  std::deque<std::vector<std::uint16_t>> dead_;
  std::vector<std::vector<Segment>> segments_;  // [kv_head]
  std::vector<std::span<const Segment>> spans_;
  std::vector<Pos> pos_;
  std::vector<float> q_, out_, lse_;
};

inline AttentionShape shape_of(const Case& c) {
  return {c.heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim))};
}
inline RopeConfig rope_of(const Case& c) { return {.dims = c.head_dim, .interleaved = c.head_dim % 16 == 0}; }
inline BlockArena arena_of(const Case& c, int sequences = 1) {
  int tiles = 0;
  for (const RunRows& run : c.runs) tiles += run.rows / kTileRows + 3;
  // a block holds one to some tiles of each plane: rows cross many boundaries
  return BlockArena{std::max(code_tile_bytes(c.k, c.head_dim), code_tile_bytes(c.v, c.head_dim)),
                    6 * tiles * c.kv_heads * sequences};
}

}  // namespace lamina
