// SPDX-License-Identifier: Apache-2.0
// Runs of encoded rows for tests and benchmarks, without the KV store: every unused byte is 0xff (NaN in all float
// formats).
#pragma once
#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/half.h"
#include "kv/bits/encode.h"
#include "kv/segment.h"

namespace lamina {

inline std::size_t area(int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

inline std::vector<float> random_floats(std::mt19937& random, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

constexpr Format kKeyFormats[] = {Format::kF32,   Format::kF16,   Format::kBF16,     Format::kInt8,    Format::kInt4,
                                  Format::kAsym4, Format::kAsym2, Format::kChannel4, Format::kChannel2};
inline std::span<const Format> formats_of(RowKind kind) {
  return std::span(kKeyFormats).first(kind == RowKind::kKey ? 9 : 7);
}

enum class BlockOrder { kScrambled, kAscending };

class BlockArena {
 public:
  BlockArena(std::size_t block_bytes, int blocks, BlockOrder order = BlockOrder::kScrambled)
      : bytes_(block_bytes * static_cast<std::size_t>(blocks)), memory_{bytes_.data(), block_bytes} {
    std::memset(bytes_.data(), 0xff, bytes_.size());
    free_.resize(static_cast<std::size_t>(blocks));
    std::iota(free_.rbegin(), free_.rend(), BlockId{0});
    if (order == BlockOrder::kScrambled) std::shuffle(free_.begin(), free_.end(), std::mt19937(1));
  }
  const BlockMemory& memory() const { return memory_; }

  // A plane for the tiles of rows [first, last), each for 2^shift tiles of rows; the ids live as long as the arena.
  Plane plane(std::size_t tile_bytes, std::uint32_t first, std::uint32_t last, std::uint32_t shift = 0) {
    if (tile_bytes == 0) return {};
    Plane plane;
    plane.tile_bytes = static_cast<std::uint32_t>(tile_bytes);
    plane.tile_shift = shift;
    plane.tiles_per_block = static_cast<std::uint32_t>(memory_.block_bytes / tile_bytes);
    const std::uint32_t rows = static_cast<std::uint32_t>(kTileRows) << shift;
    plane.first_block = first / rows / plane.tiles_per_block;
    const std::uint32_t end = last == first ? plane.first_block + 1 : (last - 1) / rows / plane.tiles_per_block + 1;
    std::vector<BlockId>& ids = ids_.emplace_back();
    for (std::uint32_t b = plane.first_block; b < end; ++b) {
      ids.push_back(free_.at(free_.size() - 1));
      free_.pop_back();
    }
    plane.blocks = ids.data();
    return plane;
  }
  // Of scales; those by channel are for groups of 32 << wider rows.
  Plane scales(Format format, int head_dim, std::uint32_t first, std::uint32_t last, std::uint32_t wider = 0) {
    return plane(scale_tile_bytes(format, head_dim), first, last, by_channel(format) ? 1 + wider : 0);
  }
  const Pos* keep(std::vector<Pos> pos) { return pos_.emplace_back(std::move(pos)).data(); }

 private:
  AlignedBuffer bytes_;
  BlockMemory memory_;
  std::vector<BlockId> free_;
  std::deque<std::vector<BlockId>> ids_;
  std::deque<std::vector<Pos>> pos_;
};

struct RunOptions {
  Format k = Format::kF32, v = Format::kF32;
  int head_dim = 64;
  std::uint32_t first = 0;  // row coordinate of the first row
  Pos shift = 0;
  std::vector<float> k_gains{}, v_gains{};  // [rows] or empty
};

inline void write_gains(const BlockMemory& memory, const Plane& plane, std::uint32_t first,
                        const std::vector<float>& x) {
  for (std::uint32_t i = 0; i < x.size(); ++i)
    reinterpret_cast<std::uint16_t*>(plane.tile(memory, (first + i) / kTileRows))[(first + i) % kTileRows] =
        f16_from_f32(x[i]);
}

// k, v: [pos.size()][head_dim].
inline Segment store_rows(BlockArena& arena, const RunOptions& run, const std::vector<float>& k,
                          const std::vector<float>& v, std::vector<Pos> pos) {
  const auto n = static_cast<std::uint32_t>(pos.size());
  Segment s;
  s.k_format = run.k, s.v_format = run.v, s.shift = run.shift;
  s.first = run.first, s.last = run.first + n;
  s.k_codes = arena.plane(code_tile_bytes(run.k, run.head_dim), s.first, s.last);
  s.v_codes = arena.plane(code_tile_bytes(run.v, run.head_dim), s.first, s.last);
  s.k_scales = arena.scales(run.k, run.head_dim, s.first, s.last);
  s.v_scales = arena.scales(run.v, run.head_dim, s.first, s.last);
  if (!run.k_gains.empty()) s.k_gains = arena.plane(2 * kTileRows, s.first, s.last);
  if (!run.v_gains.empty()) s.v_gains = arena.plane(2 * kTileRows, s.first, s.last);
  write_gains(arena.memory(), s.k_gains, s.first, run.k_gains);
  write_gains(arena.memory(), s.v_gains, s.first, run.v_gains);
  const auto stride = static_cast<std::size_t>(run.head_dim);
  write_rows({arena.memory(), RowKind::kKey, run.k, run.head_dim, s.k_codes, s.k_scales}, s.first, k.data(), stride,
             static_cast<int>(n));
  write_rows({arena.memory(), RowKind::kValue, run.v, run.head_dim, s.v_codes, s.v_scales}, s.first, v.data(), stride,
             static_cast<int>(n));
  s.pos = arena.keep(std::move(pos));
  return s;
}

}  // namespace lamina
