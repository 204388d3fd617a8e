// SPDX-License-Identifier: Apache-2.0
#include "attention/row_range.h"

#include <algorithm>
#include <bit>

namespace lamina {
namespace {

// Of rows that are asked for ahead: so many bytes take longer to work through than memory takes to answer.
constexpr int kBytesAhead = 6144, kLeastAhead = 2, kMostAhead = 32;  // tiles

// The tiles that are read after a run's: the next run's, or once more its own last.
void go_on(const std::byte* const* tiles, int count, const std::byte* const* next, int next_count, int ahead) {
  if (tiles == nullptr) return;
  auto** const after = const_cast<const std::byte**>(tiles) + count;  // in tiles_of's pointers
  for (int i = 0; i < ahead; ++i) after[i] = next ? next[std::min(i, next_count - 1)] : tiles[count - 1];
}

void read_ahead(TileRun& run, int code_bytes, const TileRun* next) {
  run.ahead = std::clamp(kBytesAhead / code_bytes, kLeastAhead, kMostAhead);
  go_on(run.codes, run.tiles(), next ? next->codes : nullptr, next ? next->tiles() : 0, run.ahead);
  go_on(run.scales, run.tiles(), next ? next->scales : nullptr, next ? next->tiles() : 0, run.ahead);
}

}  // namespace

RowRange visible_rows(const Segment& segment, const Visibility& sees, Pos query) {
  const Pos* begin = segment.pos;
  const Pos* end = begin + segment.rows();
  const Pos newest = sees.lagged ? query - 1 : query;
  if (sees.window == 0 && begin != end && end[-1] <= newest) return segment.range();  // as in decode, of most segments
  if (begin != end && end[-1] - begin[0] + 1 == end - begin) {  // without gaps, as in a prompt: no search
    const auto row = [&](Pos pos) {
      return segment.first + static_cast<std::uint32_t>(std::clamp(pos - begin[0], 0, end[-1] - begin[0] + 1));
    };
    const std::uint32_t first = sees.window > 0 ? row(query - sees.window + 1) : segment.first;
    return {first, std::max(first, row(newest + 1))};
  }
  const Pos* first = sees.window > 0 ? std::upper_bound(begin, end, query - sees.window) : begin;
  const Pos* last = std::upper_bound(first, end, newest);
  return {segment.first + static_cast<std::uint32_t>(first - begin),
          segment.first + static_cast<std::uint32_t>(last - begin)};
}

Tiles tiles_of(const BlockMemory& memory, const Segment& segment, RowRange rows, int dim,
               std::vector<const std::byte*>& pointers) {
  const std::uint32_t first = rows.first / kTileRows, count = (rows.last - 1) / kTileRows + 1 - first;
  if (pointers.size() < 6 * std::size_t{count + kMostAhead}) pointers.resize(6 * std::size_t{count + kMostAhead});
  const std::byte** next = pointers.data();
  const auto resolve = [&](const Plane& plane) -> const std::byte* const* {
    if (!plane) return nullptr;
    const std::byte** tiles = next;
    next += count + kMostAhead;
    if (plane.tile_shift > 0) {
      for (std::uint32_t t = 0; t < count; ++t) tiles[t] = plane.tile(memory, first + t);
      return tiles;
    }
    const BlockId* block = plane.block(first);
    std::uint32_t tile = first % plane.tiles_per_block;
    const std::byte* base = memory.base + *block * memory.block_bytes;
    for (std::uint32_t t = 0; t < count; ++t, ++tile) {
      if (tile == plane.tiles_per_block) {
        tile = 0;
        base = memory.base + *++block * memory.block_bytes;
      }
      tiles[t] = base + static_cast<std::size_t>(tile) * plane.tile_bytes;
    }
    return tiles;
  };
  Tiles tiles;
  tiles.base = first * kTileRows;
  tiles.keys.first = tiles.values.first = static_cast<int>(rows.first - tiles.base);
  tiles.keys.last = tiles.values.last = static_cast<int>(rows.last - tiles.base);
  tiles.keys.dim = tiles.values.dim = dim;
  tiles.keys.codes = resolve(segment.k_codes);
  tiles.keys.scales = resolve(segment.k_scales);
  tiles.values.codes = resolve(segment.v_codes);
  tiles.values.scales = resolve(segment.v_scales);
  tiles.dead = segment.dead ? segment.dead + (first - segment.first_tile()) : nullptr;
  tiles.k_gains = resolve(segment.k_gains);
  tiles.v_gains = resolve(segment.v_gains);
  return tiles;
}

void read_ahead(Tiles& tiles, const Segment& segment, const Tiles* next) {
  read_ahead(tiles.keys, static_cast<int>(segment.k_codes.tile_bytes), &tiles.values);
  read_ahead(tiles.values, static_cast<int>(segment.v_codes.tile_bytes), next ? &next->keys : nullptr);
}

void mask(float* scores, const Tiles& tiles, RowRange visible) {
  const std::uint32_t end = tiles.base + static_cast<std::uint32_t>(tiles.padded_rows());
  const std::uint32_t first = std::clamp(visible.first, tiles.base, end) - tiles.base;
  const std::uint32_t last = std::max(first, std::clamp(visible.last, tiles.base, end) - tiles.base);
  std::fill(scores, scores + first, kNoScore);
  std::fill(scores + last, scores + tiles.padded_rows(), kNoScore);
  for (int tile = 0; tiles.dead && tile < tiles.keys.tiles(); ++tile)
    for (unsigned bits = tiles.dead[tile]; bits != 0; bits &= bits - 1)
      scores[tile * kTileRows + std::countr_zero(bits)] = kNoScore;
}

std::uint32_t partition_end(std::uint32_t first, RowRange rows) {
  return std::min(rows.last, first < kFloatRows ? kFloatRows : (first / kPartitionRows + 1) * kPartitionRows);
}

std::uint32_t block_end(std::uint32_t first, RowRange rows) {
  return std::min(rows.last, (first / kBlockRows + 1) * kBlockRows);
}

RowRange intersection(RowRange a, RowRange b) { return {std::max(a.first, b.first), std::min(a.last, b.last)}; }

TileRun part_of(const TileRun& run, int tile, int count) {
  TileRun part = run;
  part.codes += tile;
  if (part.scales) part.scales += tile;
  part.first = std::max(0, run.first - tile * kTileRows);
  part.last = std::min(count * kTileRows, run.last - tile * kTileRows);
  return part;
}

}  // namespace lamina
