// SPDX-License-Identifier: Apache-2.0
// Slot: the rows of one layer, or of a pair of layers whose rows are merged, for all that read them. They live in
// runs, oldest first:
//   pinned  the leading rows that a token policy always keeps (attention sinks): committed, in their last format, or
//           exact where scales are by channel
//   rows    all others: as they came in, and from the front on in their last format once there are enough of them
//   tail    of a pair only, for each layer: its rows of the step, until the commit merges them
// A row is encoded once; afterwards it moves as bytes or is dropped.
//
// Keys and values may differ in which rows MiniCache keeps apart: the pinned and the other rows of a pair are a run for
// each of the four cases (nothing merged, the keys, the values, both).
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/bits/kivi.h"
#include "kv/fading.h"
#include "kv/layers/minicache.h"
#include "kv/run.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

struct SlotFormats {
  Format raw_k{}, raw_v{};  // of rows as they are appended
  Format k{}, v{};          // of rows that have waited
  Kivi kivi{};              // of such formats
};

// Rows of keys and of values that MiniCache has merged, and that it keeps apart. Each counts once for a pair.
struct MergeCount {
  std::size_t merged = 0, apart = 0;
  MergeCount& operator+=(const MergeCount& other) {
    merged += other.merged;
    apart += other.apart;
    return *this;
  }
  double apart_fraction() const {
    return merged + apart > 0 ? static_cast<double>(apart) / static_cast<double>(merged + apart) : 0;
  }
};

class Slot {
 public:
  // merge: null unless two layers write the slot; outlives it.
  Slot(const KvShape& shape, std::size_t block_bytes, const SlotFormats& formats, Pos window, const MiniCache* merge);

  // Rows of these positions, ascending; what the view has from the first of them on is replaced.
  // k, v: [pos][kv_heads][head_dim], `stride` floats from row to row.
  void append(BlockPool& pool, int view, std::span<const Pos> pos, const float* k, const float* v, std::size_t stride);
  // What a layer reads: [kv_head] lists of segments, valid until the slot changes or is asked again. `renumbers`: the
  // pinned rows are seen as if they stood directly before the others.
  std::span<const std::span<const Segment>> segments(int view, bool renumbers);

  Pos window() const { return window_; }
  int heads() const { return shape_.kv_heads; }
  std::size_t rows() const;

  // All rows, ascending by position, with what a token policy has measured of them.
  struct Listed {
    std::vector<Pos> pos;
    std::vector<float> mass;  // [row][column]
  };
  Listed list() const;
  // Of the rows of list(), of a slot with one KV head.
  std::vector<float> norms(const BlockPool& pool, RowKind kind) const;
  std::vector<float> keys(const BlockPool& pool) const;  // [rows][head_dim] as they are stored

  // Room for what attention measures in this step, as `readers` times `columns` sums of each head: see Observation. In
  // a prompt it starts from the sums so far, so that chunks add up in one order; of decoded tokens it starts from
  // zeros. Returns reader's [kv_heads].
  std::span<float* const> stage(int reader, int readers, int columns, int tokens, bool apart);
  void apply_staged(int accepted);  // the sums of the step's first tokens become the rows'
  void unstage();
  // From here on `columns` sums of each head and reader: as many as there are, none, or one for all query heads.
  void reduce_mass(int readers, int kinds, int columns);
  std::uint8_t& tag() { return tag_; }  // what the token policy remembers
  // The rows that go of those that only decode adds to and only this takes from, until fading() is reset. None where
  // the slot has to be listed: rows in several runs, or such that leave at a window's end.
  std::optional<std::vector<Pos>> fade(HeadRows rows, const Fade& fade);
  Fading& fading() { return fading_; }
  int mass_columns() const { return rows_[0].mass_columns(); }

  void drop_before(BlockPool& pool, Pos pos);
  void drop_from(BlockPool& pool, Pos pos);
  void drop(BlockPool& pool, std::span<const Pos> dropped);   // ascending, all of them held
  void merge(BlockPool& pool, Phase phase);                   // the tails of a pair
  void pin(BlockPool& pool, Pos end);                         // rows before `end` become pinned
  bool pins_first() const { return by_channel(formats_.k); }  // before they are encoded with others
  // Rows that have waited long enough; `chosen`: a policy has dropped others than the oldest. How many bytes it wrote.
  std::size_t encode(BlockPool& pool, bool chosen);
  void clear(BlockPool& pool);
  void share(BlockPool& pool) const;

  KvBytes bytes(const BlockPool& pool) const;
  MergeCount merged() const;
  // Why dropping rows does not give the state after `length` tokens; empty where it does.
  std::string why_not_truncate(Pos length) const;

 private:
  static constexpr unsigned kKeysMerged = 1, kValuesMerged = 2, kKinds = 4;

  bool is_pair() const { return merge_ != nullptr; }
  RunLayout layout(unsigned merged) const;
  std::uint32_t rows_to_encode(const Run& run, RowKind kind) const;
  std::vector<const Run*> runs() const;
  std::vector<Run*> runs();
  template <class Fn>
  void each_row(const BlockPool& pool, RowKind kind, Fn fn) const;
  void set_mass_columns(int lists, int columns);
  // In the order of segments(): of the tails the first layer's, which stands for both.
  std::vector<Run*> measured_runs();

  template <class Fn>
  void each_staged(Fn fn);
  std::vector<double> distances(const BlockPool& pool, RowKind kind) const;
  std::vector<unsigned> decide(const BlockPool& pool, Phase phase);
  void merge_row(const BlockPool& pool, std::uint32_t row, unsigned merged, std::uint32_t to);

  KvShape shape_;
  SlotFormats formats_;
  Pos window_;
  const MiniCache* merge_;
  std::vector<Run> pinned_, rows_;  // one, or of a pair [kind]: a sum of kKeysMerged and kValuesMerged
  std::vector<Run> tail_;           // of a pair [view], else none
  Retention apart_keys_, apart_values_;
  std::uint8_t tag_ = 0;
  Fading fading_;
  struct Staged {
    int columns = 0, tokens = 0;  // of a head; tokens: as stage()'s if `apart`, else 1
    bool apart = false;
    std::size_t rows = 0;                  // padded
    std::vector<std::vector<float>> sums;  // [reader][head] of [tokens][columns][rows]
    std::vector<float*> heads;             // the same
  };
  Staged staged_;
  std::vector<Segment> segments_;                // [kv_head][run]
  std::vector<std::span<const Segment>> heads_;  // [kv_head]
};

}  // namespace lamina
