// SPDX-License-Identifier: Apache-2.0
// Segment: a run of encoded rows of one KV head, as one layer sees them. The only type that the cache and attention
// share: everything called compression is a way of filling a list of these.
#pragma once
#include "kv/bits/format.h"
#include "kv/types.h"

namespace lamina {

using BlockId = std::uint32_t;  // a fixed-size block of the pool, resolved per device

// Where blocks live on this device: block b starts at base + b * block_bytes. 64-byte aligned.
struct BlockMemory {
  std::byte* base = nullptr;
  std::size_t block_bytes = 0;
};

// One plane of a run: tile t of its own lies in blocks[t / tiles_per_block - first_block], at (t % tiles_per_block) *
// tile_bytes. It serves 2^tile_shift tiles of rows: one, but for scales by channel. Consecutive tiles of one block are
// contiguous. A null `blocks` is an absent plane.
struct Plane {
  const BlockId* blocks = nullptr;
  std::uint32_t first_block = 0;
  std::uint32_t tiles_per_block = 1;
  std::uint32_t tile_bytes = 0;
  std::uint32_t tile_shift = 0;

  explicit operator bool() const { return blocks != nullptr; }
  // Where the block of tile `row_tile` of the rows is listed, and where that tile is.
  const BlockId* block(std::uint32_t row_tile) const {
    return blocks + ((row_tile >> tile_shift) / tiles_per_block - first_block);
  }
  std::byte* tile(const BlockMemory& memory, std::uint32_t row_tile) const {
    return memory.base + *block(row_tile) * memory.block_bytes +
           static_cast<std::size_t>((row_tile >> tile_shift) % tiles_per_block) * tile_bytes;
  }
};

// Rows [first, last) in row coordinates: row r is row r % 16 of tile r / 16.
struct RowRange {
  std::uint32_t first = 0, last = 0;

  bool empty() const { return first >= last; }
  std::uint32_t size() const { return last - first; }
  std::uint32_t tiles() const { return empty() ? 0 : (last - 1) / kTileRows + 1 - first / kTileRows; }
  std::size_t padded() const { return std::size_t{tiles()} * kTileRows; }  // rows of the tiles that hold them
};

// Rows [first, last) in row coordinates of the run. The bytes of a tile's rows
// outside [first, last) are unspecified (possibly NaN): they must not reach a result.
struct Segment {
  Format k_format{}, v_format{};
  Plane k_codes, v_codes;    // layout: kv/bits/format.h
  Plane k_scales, v_scales;  // of codes only
  Plane k_gains, v_gains;    // f16 [16 rows] or absent = 1: score *= k_gain[row], weight *= v_gain[row] (MiniCache)
  std::uint32_t first = 0, last = 0;
  const Pos* pos = nullptr;  // [last - first], strictly ascending: position of row first + i
  Pos shift = 0;             // the query sees this run `shift` positions closer (StreamingLLM's re-numbering)
  // [tile - first / 16] or null: rows that nobody sees any more, a bit each, the lowest for row 0 of the tile.
  const std::uint16_t* dead = nullptr;

  RowRange range() const { return {first, last}; }
  std::uint32_t rows() const { return last - first; }
  std::uint32_t first_tile() const { return first / kTileRows; }
  // Bytes of the tiles that hold these rows, at least one, in all planes.
  std::size_t bytes(RowRange of) const {
    std::size_t bytes = 0;
    const std::uint32_t from = of.first / kTileRows, to = (of.last - 1) / kTileRows;
    for (const Plane& plane : {k_codes, v_codes, k_scales, v_scales, k_gains, v_gains})
      if (plane) bytes += ((to >> plane.tile_shift) - (from >> plane.tile_shift) + 1) * std::size_t{plane.tile_bytes};
    return bytes;
  }
};

}  // namespace lamina
