// SPDX-License-Identifier: Apache-2.0
// Which rows of a segment a query sees, and where their bytes lie.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "attention/attention.h"
#include "kernels/attend.h"
#include "kv/segment.h"

namespace lamina {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

// Rows are summed in partitions, cut at multiples of this in the row coordinates of their run, whatever the query, the
// path and the chunk that a query came in: partial results are the same to the bit wherever rows are float, and so is
// their merge.
constexpr std::uint32_t kPartitionRows = 512;
// The first rows of a run meet prompts as float32, a partition of their own: most attention goes to them.
constexpr std::uint32_t kFloatRows = 128;
std::uint32_t partition_end(std::uint32_t first, RowRange rows);
// Prompts convert rows so many at a time, in blocks that are cut likewise.
constexpr std::uint32_t kBlockRows = 128;
std::uint32_t block_end(std::uint32_t first, RowRange rows);
RowRange intersection(RowRange a, RowRange b);

// Visibility is decided from positions alone, and positions ascend: the visible rows are one range.
RowRange visible_rows(const Segment& segment, const Visibility& sees, Pos query);

// Pointers to the tiles that a range of rows touches.
struct Tiles {
  TileRun keys, values;
  const std::byte* const* k_gains = nullptr;
  const std::byte* const* v_gains = nullptr;
  const std::uint16_t* dead = nullptr;  // [tile], see Segment
  std::uint32_t base = 0;               // row of the segment that is row 0 of the runs

  int padded_rows() const { return keys.tiles() * kTileRows; }
};

// `pointers` holds what the result points to.
Tiles tiles_of(const BlockMemory& memory, const Segment& segment, RowRange rows, int dim,
               std::vector<const std::byte*>& pointers);
// Kernels that read tiles ask memory for those to come: after the keys the values are read, and then the keys of `next`
// (null: nothing).
void read_ahead(Tiles& tiles, const Segment& segment, const Tiles* next);
// Tiles [tile, tile + count) of a run.
TileRun part_of(const TileRun& run, int tile, int count);

// -inf for all scores but those of the living rows in `visible`.
void mask(float* scores, const Tiles& tiles, RowRange visible);

}  // namespace lamina
