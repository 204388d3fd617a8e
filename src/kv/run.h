// SPDX-License-Identifier: Apache-2.0
// Run: consecutive rows of one slot in one layout, for all KV heads, in blocks of the pool. Rows are written at the
// end, leave at the front or the back, and move between runs; their bytes are never decoded and written back. Rows that
// leave in the midst stay where they are, dead, until there are enough of them to close the ranks: a policy that drops
// a row at every step would otherwise move half of the others each time.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kv/bits/encode.h"
#include "kv/pages.h"
#include "kv/segment.h"

namespace lamina {

struct KvBytes {  // what a sequence holds; the parts add up to the bytes of its blocks and position lists
  std::size_t rows = 0, scales = 0, gains = 0, positions = 0;
  std::size_t mass = 0;   // what a token policy has measured of the rows
  std::size_t slack = 0;  // padding, unused rows of blocks, dropped rows in their midst, unused capacity
  std::size_t total() const { return rows + scales + gains + positions + mass + slack; }
  KvBytes& operator+=(const KvBytes& other);
};

// How the keys, or the values, of a run are written. A slot of two views (a pair of layers) has either codes for each
// view, or codes that both read, each with gains of its own.
struct TensorLayout {
  Format format{};
  int copies = 1;  // of each head's codes: [view], or one for all
  int gains = 0;   // f16 values a row: none, [view] for all heads together, or [view][head]
  bool operator==(const TensorLayout&) const = default;
};

struct RunLayout {
  TensorLayout k, v;
  const TensorLayout& of(RowKind kind) const { return kind == RowKind::kKey ? k : v; }
  bool operator==(const RunLayout&) const = default;
};

class Run {
 public:
  Run(const KvShape& shape, std::size_t block_bytes, const RunLayout& layout);

  const RunLayout& layout() const { return layout_; }
  // The dead ones included; neither the first nor the last is dead.
  std::uint32_t rows() const { return last_ - first_; }
  std::uint32_t live() const { return rows() - dead_rows_; }
  bool is_dead(std::uint32_t row) const;
  std::uint32_t rows_with(std::uint32_t living) const;  // the first rows that hold so many living ones
  // Calls fn(first, last) for the living rows, in ranges.
  template <class Fn>
  void each_living(Fn fn) const {
    for (std::uint32_t row = 0, end = 0; row < rows(); row = end) {
      for (end = row; end < rows() && !is_dead(end);) end = dead_rows_ == 0 ? rows() : end + 1;
      if (row < end) fn(row, end);
      while (end < rows() && is_dead(end)) ++end;
    }
  }
  std::span<const Pos> positions() const { return std::span(pos_).subspan(pos_.size() - rows()); }  // [rows()]

  // Numbers that a token policy has measured, so many for each row; those beyond the former columns are 0.
  void set_mass_columns(int columns);
  void sum_mass(int lists, int kinds);  // of each list of columns the sum of every kinds-th becomes its only column
  int mass_columns() const { return static_cast<int>(columns_); }
  std::span<float> mass() { return std::span(mass_).last(std::size_t{rows()} * columns_); }  // [rows()][columns]
  std::span<const float> mass() const { return std::span(mass_).last(std::size_t{rows()} * columns_); }
  void copy_mass(const Run& from, std::uint32_t from_row, std::uint32_t row);
  std::uint32_t first() const { return first_; }  // the row coordinate of row 0, as in Segment

  // Rows [rows() - n, rows()) become writable and belong to `pos`, whose length is n.
  void grow(BlockPool& pool, std::span<const Pos> pos);
  // Rows [row, row + n) of one copy: x is [n][kv_heads][head_dim], float32; `stride` floats from row to row.
  void write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, RowKind kind, int copy, const float* x,
             std::size_t stride);
  void write_gain(const BlockPool& pool, std::uint32_t row, RowKind kind, int gain, float value);
  void read(const BlockPool& pool, std::uint32_t row, RowKind kind, int copy, float* x) const;  // [kv_heads][head_dim]
  // Appends the first n rows of `from`, but for the dead, encoding what is written in another format, else moving codes
  // as they are. The layouts differ in formats only.
  void append_from(BlockPool& pool, const Run& from, std::uint32_t n);
  void drop_front(BlockPool& pool, std::uint32_t n);
  void drop_back(BlockPool& pool, std::uint32_t n);
  void drop(BlockPool& pool, std::span<const std::uint32_t> rows);  // ascending, none of them dead
  void close_ranks(BlockPool& pool);                                // no row is dead any more
  void clear(BlockPool& pool) { drop_front(pool, rows()); }
  void share(BlockPool& pool) const;  // one more reference to every block: for a fork

  Segment segment(int head, int view, Pos shift) const;
  KvBytes bytes(const BlockPool& pool) const;

 private:
  // The blocks of one plane: codes, scales or gains, of one head or of all.
  struct PlaneBlocks {
    std::uint32_t tiles_per_block = 1, tile_bytes = 0;
    std::uint32_t first_block = 0;  // blocks that were freed at the front
    std::vector<BlockId> blocks{};
  };
  enum class What : std::uint8_t { kCodes, kScales, kGains };

  // Of codes and scales: [copy][head]; of gains: [gain]. An absent plane where the layout has none.
  Plane plane(RowKind kind, What what, int index) const;
  std::size_t first_plane(RowKind kind, What what) const;
  int planes_of(RowKind kind, What what) const;
  RowPlanes row_planes(const BlockMemory& memory, RowKind kind, int copy, int head) const;
  std::byte* gain_at(const BlockMemory& memory, RowKind kind, int gain, std::uint32_t row) const;
  void make_writable(BlockPool& pool, std::uint32_t row);  // from this row on: blocks exist and are not shared
  void free_unused(BlockPool& pool);
  void move_row(const BlockMemory& memory, const Run& from, std::uint32_t from_row, std::uint32_t row);
  void forget_left();  // positions and masses of rows that left at the front
  void set_dead(std::uint32_t row, bool dead);
  void drop_dead_ends(BlockPool& pool);

  RunLayout layout_;
  int heads_, head_dim_;
  std::uint32_t first_ = 0, last_ = 0;  // row coordinates; they only grow, and restart when the run is empty
  std::vector<Pos> pos_;                // its last rows() entries
  std::size_t columns_ = 0;
  std::vector<float> mass_;      // [as pos_][columns]
  std::uint32_t dead_rows_ = 0;  // how many
  std::uint32_t first_dead_tile_ = 0;
  std::vector<std::uint16_t> dead_;  // [tile - first_dead_tile_] a bit for each row; empty where no row is dead
  std::vector<PlaneBlocks> planes_;  // keys, then values: codes, scales, gains
};

}  // namespace lamina
