// SPDX-License-Identifier: Apache-2.0
// Run: consecutive rows of one slot in one pair of formats, for all KV heads, in blocks of the pool. Rows are written
// at the end, leave at the front, and move between runs; their bytes are never decoded and written back.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kv/bits/encode.h"
#include "kv/pages.h"
#include "kv/segment.h"

namespace lamina {

struct KvBytes {  // what a sequence holds; the parts add up to the bytes of its blocks and position lists
  std::size_t rows = 0, scales = 0, gains = 0, positions = 0;
  std::size_t slack = 0;  // padding, unused rows of blocks, unused capacity
  std::size_t total() const { return rows + scales + gains + positions + slack; }
  KvBytes& operator+=(const KvBytes& other);
};

class Run {
 public:
  Run(const KvShape& shape, std::size_t block_bytes, Format k, Format v);

  std::uint32_t rows() const { return last_ - first_; }
  std::span<const Pos> positions() const { return std::span(pos_).subspan(pos_.size() - rows()); }

  // Rows [rows() - n, rows()) become writable and belong to `pos`, whose length is n.
  void grow(BlockPool& pool, std::span<const Pos> pos);
  // k, v: [n][kv_heads][head_dim] for the last n rows, float32.
  void write_last(BlockPool& pool, std::uint32_t n, const float* k, const float* v);
  // Appends the first n rows of `from`, encoding them if the formats differ, else moving codes as they are.
  void append_from(BlockPool& pool, const Run& from, std::uint32_t n);
  void drop_front(BlockPool& pool, std::uint32_t n);
  void drop_back(BlockPool& pool, std::uint32_t n);
  void keep(BlockPool& pool, std::span<const std::uint32_t> rows);  // ascending
  void clear(BlockPool& pool) { drop_front(pool, rows()); }
  void share(BlockPool& pool) const;  // one more reference to every block: for a fork

  Segment segment(int head, Pos shift) const;
  KvBytes bytes(const BlockPool& pool) const;

 private:
  enum : std::size_t { kKCodes, kVCodes, kKScales, kVScales, kPlanes };
  struct PlaneShape {
    std::uint32_t tiles_per_block = 1, tile_bytes = 0;  // tile_bytes 0: the format has no such plane
  };
  struct PlaneBlocks {
    std::vector<BlockId> blocks;
    std::uint32_t first_block = 0;  // blocks that were freed at the front
  };

  Plane plane(int head, std::size_t which) const;
  void make_writable(BlockPool& pool, std::uint32_t row);  // from this row on: blocks exist and are not shared
  void free_unused(BlockPool& pool);
  void move_row(const BlockMemory& memory, int head, const Run& from, std::uint32_t from_row, std::uint32_t row);
  RowPlanes planes(const BlockMemory& memory, int head, RowKind kind) const;

  Format k_, v_;
  int heads_, head_dim_;
  std::uint32_t first_ = 0, last_ = 0;  // row coordinates; they only grow, and restart when the run is empty
  std::vector<Pos> pos_;                // its last rows() entries
  std::array<PlaneShape, kPlanes> shapes_;
  std::vector<std::array<PlaneBlocks, kPlanes>> planes_;  // [head][plane]
};

}  // namespace lamina
