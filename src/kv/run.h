// SPDX-License-Identifier: Apache-2.0
// Run: consecutive rows of one slot, for all KV heads: their keys and their values (kv/tensor_run.h), positions, and
// what a token policy has measured of them. Rows are written at the end, leave at the front or the back, and move
// between runs; their codes are never decoded and written back. Rows that leave in the midst stay where they are, dead,
// until there are enough of them to close the ranks: a policy that drops a row at every step would otherwise move half
// of the others each time.
#pragma once
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "kv/pages.h"
#include "kv/segment.h"
#include "kv/tensor_run.h"

namespace lamina {

struct KvBytes {  // what a sequence holds; the parts add up to the bytes of its blocks and lists
  std::size_t rows = 0, scales = 0, gains = 0, positions = 0;
  std::size_t mass = 0;  // what a token policy has measured of the rows
  std::size_t slack =
      0;  // padding, unused rows of blocks, dropped rows in their midst, unused capacity, rows to go next
  std::size_t total() const { return rows + scales + gains + positions + mass + slack; }
  KvBytes& operator+=(const KvBytes& other);
};

struct RunLayout {
  TensorLayout k, v;
  const TensorLayout& of(RowKind kind) const { return kind == RowKind::kKey ? k : v; }
};

class Run {
 public:
  Run(const KvShape& shape, std::size_t block_bytes, const RunLayout& layout);

  RunLayout layout() const { return {.k = k_.layout(), .v = v_.layout()}; }
  // The dead ones included; the first is not dead, nor is the last unless it cannot move.
  std::uint32_t rows() const { return last_ - first_; }
  std::uint32_t live() const { return rows() - dead_rows_; }
  bool is_dead(std::uint32_t row) const;
  std::uint32_t living_before(std::uint32_t row) const;
  std::uint32_t rows_with(std::uint32_t living) const;  // the first rows that hold so many living ones
  // Calls fn(first, last) for the living rows, in ranges.
  template <class Fn>
  void each_living(Fn fn) const {
    std::uint32_t living = 0;  // the first since a dead one
    each_dead([&](std::uint32_t row) {
      if (living < row) fn(living, row);
      living = row + 1;
    });
    if (living < rows()) fn(living, rows());
  }
  std::span<const Pos> positions() const { return std::span(pos_).subspan(pos_.size() - rows()); }  // [rows()]

  // Numbers that a token policy has measured, for each row so many lists of so many columns; those beyond the former
  // columns are 0.
  void set_mass_columns(int lists, int columns);
  void sum_mass(int lists, int kinds);  // of each list of columns the sum of every kinds-th becomes its only column
  int mass_columns() const { return static_cast<int>(columns_); }
  std::span<float> mass() { return std::span(mass_).last(std::size_t{rows()} * columns_); }  // [rows()][columns]
  std::span<const float> mass() const { return std::span(mass_).last(std::size_t{rows()} * columns_); }
  void copy_mass(const Run& from, std::uint32_t from_row, std::uint32_t row);
  std::uint32_t first() const { return first_; }  // the row coordinate of row 0, as in Segment

  // Rows [rows() - n, rows()) become writable and belong to `pos`, whose length is n. They wait to be encoded.
  void grow(BlockPool& pool, std::span<const Pos> pos);
  // Row coordinates begin at 0 again, for groups of rows that share scales: while none is encoded and none dead.
  void to_front(BlockPool& pool);
  // The first `end` rows of one tensor are encoded, or as many as are already; how many bytes that wrote.
  std::size_t encode(BlockPool& pool, RowKind kind, std::uint32_t end);
  std::uint32_t encoded(RowKind kind) const { return of(kind).encoded() - first_; }  // the first so many rows are
  // Rows [row, row + n) of one copy: x is [n][kv_heads][head_dim], float32; `stride` floats from row to row.
  void write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, RowKind kind, int copy, const float* x,
             std::size_t stride);
  void write_gain(const BlockPool& pool, std::uint32_t row, RowKind kind, int gain, float value);
  void read(const BlockPool& pool, std::uint32_t row, RowKind kind, int copy, float* x) const;  // [kv_heads][head_dim]
  // Appends the first n rows of `from`, but for the dead, in their last format. This run's rows must all be encoded;
  // the layouts are the same.
  void append_encoded(BlockPool& pool, const Run& from, std::uint32_t n);
  void drop_front(BlockPool& pool, std::uint32_t n);
  void drop_back(BlockPool& pool, std::uint32_t n);
  void drop(BlockPool& pool, std::span<const std::uint32_t> rows);  // ascending, none of them dead
  void close_ranks(BlockPool& pool);  // no row is dead any more, but among those that cannot move
  void clear(BlockPool& pool) { drop_front(pool, rows()); }
  void share(BlockPool& pool) const;  // one more reference to every block: for a fork

  // Where the keys', or the values', format changes: the rows between are a segment each. In row coordinates.
  std::vector<RowRange> parts() const;
  Segment segment(int head, int view, RowRange part, Pos shift) const;
  KvBytes bytes(const BlockPool& pool) const;

 private:
  TensorRun& of(RowKind kind) { return kind == RowKind::kKey ? k_ : v_; }
  const TensorRun& of(RowKind kind) const { return kind == RowKind::kKey ? k_ : v_; }
  void append_positions(std::span<const Pos> pos);
  void resize(BlockPool& pool, std::uint32_t writable);  // of the tensors, to [first_, last_)
  void forget_left();                                    // positions and masses of rows that left at the front
  void shrink();                                         // the same, and room that is no longer needed
  void set_dead(std::uint32_t row, bool dead);
  template <class Fn>
  void each_dead(Fn fn) const {  // fn(row), ascending
    for (std::size_t tile = 0; tile < dead_.size(); ++tile)
      for (unsigned bits = dead_[tile]; bits != 0; bits &= bits - 1) {
        const auto at = (first_dead_tile_ + static_cast<std::uint32_t>(tile)) * kTileRows;
        fn(at + static_cast<std::uint32_t>(std::countr_zero(bits)) - first_);
      }
  }
  std::uint32_t fixed_rows() const;  // the first so many cannot move: they share scales
  void drop_dead_ends(BlockPool& pool);

  std::uint32_t first_ = 0, last_ = 0;  // row coordinates; they only grow, and restart when the run is empty
  TensorRun k_, v_;
  std::vector<Pos> pos_;  // its last rows() entries
  std::size_t columns_ = 0;
  std::vector<float> mass_;      // [as pos_][columns]
  std::uint32_t dead_rows_ = 0;  // how many
  std::uint32_t first_dead_tile_ = 0;
  std::vector<std::uint16_t> dead_;  // [tile - first_dead_tile_] a bit for each row; empty where no row is dead
};

}  // namespace lamina
