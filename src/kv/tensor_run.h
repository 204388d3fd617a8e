// SPDX-License-Identifier: Apache-2.0
// TensorRun: the keys, or the values, of a run of rows (kv/run.h), for all KV heads, in blocks of the pool. Rows come
// in raw, in 16 or 32 bits; from the front on they are encoded, once, where they stand: the codes have planes of their
// own with the same row coordinates, and the raw blocks behind them are freed. Keys and values may be encoded up to
// different rows.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "kv/bits/encode.h"
#include "kv/pages.h"
#include "kv/segment.h"

namespace lamina {

// How keys, or values, are written. A slot of two views (a pair of layers) has either codes for each view, or codes
// that both read, each with gains of its own.
struct TensorLayout {
  Format raw{}, format{};  // as they come in, and once they are encoded
  int copies = 1;          // of each head's codes: [view], or one for all
  int gains = 0;           // f16 values a row: none, [view] for all heads together, or [view][head]
  int group = kTileRows;   // rows that share scales by channel
  bool waits() const { return raw != format; }
};

class TensorRun {
 public:
  TensorRun(RowKind kind, const KvShape& shape, std::size_t block_bytes, const TensorLayout& layout);

  const TensorLayout& layout() const { return layout_; }
  RowRange rows() const { return rows_; }
  // Rows before this one are encoded: all of a tensor that does not wait.
  std::uint32_t encoded() const { return layout_.waits() ? encoded_ : rows_.last; }

  // The rows are [rows.first, rows.last) from here on: blocks that hold none of them are freed, missing ones acquired.
  // Rows from `writable` on become writable: their blocks are shared with nobody.
  void resize(BlockPool& pool, RowRange rows, std::uint32_t writable);
  // Rows before `end` are encoded now; how many bytes that wrote.
  std::size_t encode(BlockPool& pool, std::uint32_t end);
  // New rows go in as codes: only while every row is encoded.
  void skip_waiting(BlockPool& pool, std::uint32_t end);

  // Rows [row, row + n) of one copy, not yet encoded: x is [n][kv_heads][head_dim], `stride` floats from row to row.
  void write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, int copy, const float* x, std::size_t stride);
  void write_gain(const BlockPool& pool, std::uint32_t row, int gain, float value);
  void read(const BlockPool& pool, std::uint32_t row, int copy, float* x) const;  // [kv_heads][head_dim]
  // A row of `from`, whose layout is the same: bit for bit where both rows are at the same stage, else encoded.
  void copy_from(const BlockPool& pool, const TensorRun& from, std::uint32_t from_row, std::uint32_t row);
  // Rows move towards the front within their stage, until set_encoded() says where codes end now. Raw rows may come to
  // stand where there were codes: make_room() gives them blocks from `encoded` on.
  void make_room(BlockPool& pool, std::uint32_t encoded, std::uint32_t writable);
  void move_row(const BlockPool& pool, std::uint32_t from, std::uint32_t to, bool encoded);
  void set_encoded(std::uint32_t end) { encoded_ = end; }
  void share(BlockPool& pool) const;  // one more reference to every block: for a fork

  struct Codes {
    Format format{};
    Plane codes, scales, gains;
  };
  Codes codes_of(int head, int view, bool encoded) const;

  std::size_t row_bytes(bool encoded) const;           // of one row in all heads and copies
  std::size_t scale_bytes(std::size_t encoded) const;  // of so many encoded rows
  std::size_t gain_bytes() const;
  std::size_t held_bytes(const BlockPool& pool) const;  // blocks, and the lists of them

 private:
  enum class What : std::uint8_t { kRaw, kCodes, kScales, kGains };
  static constexpr std::array kAll = {What::kRaw, What::kCodes, What::kScales, What::kGains};

  struct PlaneBlocks {
    std::uint32_t tiles_per_block = 1, tile_bytes = 0, tile_shift = 0;
    std::uint32_t first_block = 0;  // blocks that were freed at the front
    std::vector<BlockId> blocks{};
  };

  int planes_of(What what) const;
  std::size_t first_plane(What what) const;
  RowRange rows_of(What what) const;  // that have bytes in such planes
  Plane plane(What what, int index) const;
  RowPlanes row_planes(const BlockMemory& memory, int copy, int head, bool encoded) const;
  bool is_encoded(std::uint32_t row) const { return row < encoded(); }
  std::byte* gain_at(const BlockMemory& memory, int gain, std::uint32_t row) const;
  void copy_row_of(const BlockPool& pool, const TensorRun& from, std::uint32_t from_row, bool from_encoded,
                   std::uint32_t row, bool encoded);
  static void cover(BlockPool& pool, PlaneBlocks& plane, RowRange rows, std::uint32_t writable);

  RowKind kind_;
  TensorLayout layout_;
  int heads_, head_dim_;
  RowRange rows_;
  std::uint32_t encoded_ = 0;        // within rows_
  std::vector<PlaneBlocks> planes_;  // raw [copy][head], codes [copy][head], scales [copy][head], gains [gain]
};

}  // namespace lamina
