// SPDX-License-Identifier: Apache-2.0
// The naive model of a KvSequence: every row by itself, in plain vectors.
#pragma once
#include <algorithm>
#include <memory>
#include <numbers>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kv/bits/encode.h"
#include "kv/naive_merge.h"
#include "kv/sequence.h"

namespace lamina::testing {

inline void check(bool ok, const std::string& what) {
  if (!ok) throw std::logic_error("kv ops: " + what);
}

// One row of one head through `format` and back.
inline std::vector<float> through(RowKind kind, Format format, const std::vector<float>& row) {
  const int dim = static_cast<int>(row.size());
  std::vector<std::byte> memory(2 * code_tile_bytes(Format::kF32, dim) + 128);
  const auto at = (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  const BlockId blocks[2] = {0, 1};
  const std::size_t block_bytes = (code_tile_bytes(Format::kF32, dim) + 63) / 64 * 64;
  RowPlanes planes{.memory = {.base = memory.data() + at, .block_bytes = block_bytes},
                   .kind = kind,
                   .format = format,
                   .head_dim = dim,
                   .codes = {.blocks = blocks, .tile_bytes = static_cast<std::uint32_t>(code_tile_bytes(format, dim))},
                   .scales = {}};
  if (has_scales(format))
    planes.scales = {.blocks = blocks + 1, .tile_bytes = static_cast<std::uint32_t>(scale_tile_bytes(format, dim))};
  write_rows(planes, 3, row.data(), row.size(), 1);
  std::vector<float> out(row.size());
  read_row(planes, 3, out.data());
  return out;
}

// One tensor of one row: what the layer, or each layer of a pair, must see of it.
struct NaiveTensor {
  bool merged = false;
  std::vector<std::vector<float>> codes[2];  // [view][head][channel], what the segments' codes say
  std::vector<double> gains[2];              // [view][head]
};
struct NaiveRow {
  Pos pos = 0;
  bool exact = true;  // not yet encoded
  bool raw = true;    // as appended, not yet merged
  NaiveTensor k, v;
  std::vector<double> mass{};  // [reader][head][column], what queries gave it; empty: zeros
};
// The rows that live and die together: of one KV head, or of all heads of a slot.
struct NaiveSet {
  int first_head = 0, heads = 0;
  int columns = 0;  // sums of a row that the store has room for
  std::vector<NaiveRow> rows{};
};

// What the queries of one layer gave a row.
struct NaiveSeen {
  LayerId layer{};
  int head = 0;
  Pos pos = 0;
  int token = 0;  // of the step
  int column = 0;
  double weight = 0;
};

// What KvSequence promises, row by row.
class NaiveSequence {
 public:
  NaiveSequence(std::shared_ptr<const KvSpec> spec, KvShape shape)
      : spec_(std::move(spec)),
        shape_(std::move(shape)),
        slots_(static_cast<std::size_t>(spec_->layers.slots())),
        retention_(2 * slots_.size()) {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      const bool by_head = spec_->tokens && spec_->tokens->by_head() && !is_pair(slot);
      const int heads = by_head ? 1 : shape_.kv_heads;
      for (int h = 0; h < shape_.kv_heads; h += heads) slots_[slot].push_back({.first_head = h, .heads = heads});
    }
    raw_k_ = spec_->k == Format::kF32 ? Format::kF32 : Format::kF16;
    raw_v_ = spec_->v == Format::kF32 ? Format::kF32 : Format::kF16;
  }

  void append(LayerId layer, int tokens, const float* k, const float* v) {
    const Route& route = spec_->layers[layer];
    for (NaiveSet& set : slots_[static_cast<std::size_t>(index(*route.writes))])
      for (int t = 0; t < tokens; ++t) {
        if (route.view == 0) set.rows.push_back({.pos = length + t, .k = {}, .v = {}});
        NaiveRow& row = set.rows[set.rows.size() - static_cast<std::size_t>(route.view == 0 ? 1 : tokens - t)];
        check(row.pos == length + t && row.raw, "the twin's own rows");
        for (auto* tensor : {&row.k, &row.v}) {
          auto& codes = tensor->codes[route.view];
          for (int h = set.first_head; h < set.first_head + set.heads; ++h) {
            const float* from =
                (tensor == &row.k ? k : v) + static_cast<std::ptrdiff_t>(t * shape_.kv_heads + h) * shape_.head_dim;
            codes.push_back(tensor == &row.k ? through(RowKind::kKey, raw_k_, {from, from + shape_.head_dim})
                                             : through(RowKind::kValue, raw_v_, {from, from + shape_.head_dim}));
          }
          tensor->gains[route.view].assign(codes.size(), 1);
        }
      }
  }

  // What is measured of a layer's queries in a step.
  Observe observed(LayerId layer, int tokens, Phase phase) const {
    const Route& route = spec_->layers[layer];
    if (!spec_->tokens || readers_of(static_cast<std::size_t>(index(route.reads)), layer).second < 0) return {};
    return spec_->tokens->observes(phase == Phase::kDecode ? phase : Phase::kPrompt, length + tokens);
  }
  // The same as what was seen since: rows' sums as the step is committed.
  void observe(LayerId layer, const Observe& what) {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[layer].reads));
    for (NaiveSet& set : slots_[slot])
      set.columns = readers_of(slot, layer).first * set.heads * what.columns(shape_.query_group);
  }
  void see(const NaiveSeen& seen) { seen_.push_back(seen); }

  void commit(Phase phase, int accepted) {
    add_seen(phase, accepted);
    length += accepted;
    if (phase != Phase::kDecode) prompt = length;
    const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length % spec_->grid == 0);
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      const Pos window = spec_->layers.window(SlotId{static_cast<int>(s)});
      for (NaiveSet& set : slots_[s]) {
        std::erase_if(set.rows, [&](const NaiveRow& row) { return row.pos >= length; });
        if (window > 0) std::erase_if(set.rows, [&](const NaiveRow& row) { return row.pos <= length - window; });
      }
      if (!lossy) continue;
      const bool evicted = spec_->tokens && evict(s, phase);
      if (is_pair(s)) merge(s, phase);
      for (NaiveSet& set : slots_[s]) {
        for (auto& row : set.rows)
          if (evicted && row.exact && row.pos < spec_->tokens->pinned_rows()) encode(row, is_pair(s));
        for (int kind = 0; kind < 4; ++kind) encode_old(set.rows, kind, is_pair(s));
      }
    }
  }

  void truncate(Pos to) {
    length = to;
    prompt = std::min(prompt, to);
    for (auto& sets : slots_)
      for (NaiveSet& set : sets) std::erase_if(set.rows, [&](const NaiveRow& row) { return row.pos >= to; });
  }

  const NaiveSet& set_of(int slot, int head) const {
    const auto& sets = slots_[static_cast<std::size_t>(slot)];
    return sets[sets.size() > 1 ? static_cast<std::size_t>(head) : 0];
  }
  const std::vector<NaiveRow>& rows(int slot) const { return set_of(slot, 0).rows; }
  // What the sums of all rows take.
  std::size_t mass_bytes() const {
    std::size_t sums = 0;
    for (const auto& sets : slots_)
      for (const NaiveSet& set : sets) sums += set.rows.size() * static_cast<std::size_t>(set.columns);
    return sums * sizeof(float);
  }

  Pos length = 0, prompt = 0;

 private:
  bool is_pair(std::size_t slot) const { return spec_->layers.views(SlotId{static_cast<int>(slot)}) == 2; }
  // Whether the row's tensor is one that MiniCache has kept apart: such rows are never encoded.
  bool apart(const NaiveTensor& tensor, bool merges, bool pair) const { return pair && merges && !tensor.merged; }

  void encode(NaiveRow& row, bool pair) const {
    row.exact = false;
    for (auto* tensor : {&row.k, &row.v}) {
      const bool key = tensor == &row.k;
      const Format raw = key ? raw_k_ : raw_v_, to = key ? spec_->k : spec_->v;
      if (raw == to || apart(*tensor, key ? spec_->minicache.keys : spec_->minicache.values, pair)) continue;
      for (auto& view : tensor->codes)
        for (auto& x : view) x = through(key ? RowKind::kKey : RowKind::kValue, to, x);
    }
  }

  // How many layers are observed at a slot, and which of them the layer is; -1 if none.
  std::pair<int, int> readers_of(std::size_t slot, LayerId layer) const {
    int readers = 0, found = -1;
    for (int i = 0; i < shape_.layers; ++i) {
      const Route& route = spec_->layers[LayerId{i}];
      if (index(route.reads) != static_cast<int>(slot)) continue;
      if (route.writes != route.reads && spec_->tokens->readers() == Readers::kOwner) continue;
      if (layer == LayerId{i}) found = readers;
      ++readers;
    }
    return {readers, found};
  }

  void add_seen(Phase phase, int accepted) {
    for (const NaiveSeen& seen : seen_) {
      if (seen.token >= accepted) continue;
      const auto slot = static_cast<std::size_t>(index(spec_->layers[seen.layer].reads));
      auto& sets = slots_[slot];
      NaiveSet& set = sets[sets.size() > 1 ? static_cast<std::size_t>(seen.head) : 0];
      const auto row = std::ranges::lower_bound(set.rows, seen.pos, {}, &NaiveRow::pos);
      check(row != set.rows.end() && row->pos == seen.pos, "what was seen is held");
      row->mass.resize(static_cast<std::size_t>(set.columns));
      const int columns = spec_->tokens->observes(phase == Phase::kDecode ? Phase::kDecode : Phase::kPrompt, length)
                              .columns(shape_.query_group);
      const int head = readers_of(slot, seen.layer).second * set.heads + seen.head - set.first_head;
      row->mass[static_cast<std::size_t>(head * columns + seen.column)] += seen.weight;
    }
    seen_.clear();
  }

  // Whether rows went.
  bool evict(std::size_t slot, Phase phase) {
    auto& sets = slots_[slot];
    const int readers = readers_of(slot, LayerId{}).first;
    std::vector<std::vector<Pos>> pos(sets.size());
    std::vector<std::vector<float>> mass(sets.size());
    std::vector<HeadRows> heads;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      for (NaiveRow& row : sets[i].rows) {
        row.mass.resize(static_cast<std::size_t>(sets[i].columns));
        pos[i].push_back(row.pos);
        mass[i].insert(mass[i].end(), row.mass.begin(), row.mass.end());
      }
      heads.push_back({.pos = pos[i],
                       .mass = mass[i],
                       .readers = readers,
                       .columns = sets[i].columns / readers,
                       .combined = spec_->tokens->readers()});
    }
    const Step step{.phase = phase,
                    .length = length,
                    .prompt_length = prompt,
                    .slot = static_cast<int>(slot),
                    .slots = static_cast<int>(slots_.size())};
    std::vector<Keep> keep(sets.size());
    spec_->tokens->select(step, heads, keep);
    bool evicted = false;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      std::vector<NaiveRow> kept;
      for (const auto row : keep[i]) kept.push_back(sets[i].rows[row]);
      evicted = evicted || kept.size() < sets[i].rows.size();
      sets[i].rows = kept;
    }
    // with its prompt, what was measured of it is forgotten, unless decode goes on measuring
    if (phase == Phase::kPromptEnd && !spec_->tokens->observes(Phase::kDecode, length).any())
      for (NaiveSet& set : sets) {
        set.columns = 0;
        for (NaiveRow& row : set.rows) row.mass.clear();
      }
    return evicted;
  }

  // [raw row] which are kept apart in one tensor.
  std::vector<bool> rows_apart(const std::vector<NaiveRow*>& raw, bool key, NaiveRetention& retention, Phase phase) {
    std::vector<double> d;
    for (const NaiveRow* row : raw) {
      const NaiveTensor& tensor = key ? row->k : row->v;
      const auto parts = parts_of(tensor);
      double sum = 0;
      for (const auto& [lower, deeper] : parts) sum += naive_angle(lower, deeper) / std::numbers::pi;
      d.push_back(sum / static_cast<double>(parts.size()));
    }
    if (phase != Phase::kDecode) return retention.prompt(spec_->minicache, d);
    std::vector<bool> result;
    for (const double x : d) result.push_back(retention.decoded(spec_->minicache, x));
    return result;
  }

  // The vectors that are merged by themselves: each head's, or all heads' as one.
  std::vector<std::pair<std::vector<float>, std::vector<float>>> parts_of(const NaiveTensor& tensor) const {
    std::vector<std::pair<std::vector<float>, std::vector<float>>> parts(
        spec_->minicache.by_head ? static_cast<std::size_t>(shape_.kv_heads) : 1);
    for (std::size_t h = 0; h < tensor.codes[0].size(); ++h) {
      auto& [lower, deeper] = parts[spec_->minicache.by_head ? h : 0];
      lower.insert(lower.end(), tensor.codes[0][h].begin(), tensor.codes[0][h].end());
      deeper.insert(deeper.end(), tensor.codes[1][h].begin(), tensor.codes[1][h].end());
    }
    return parts;
  }

  void merge(std::size_t slot, Phase phase) {
    const MiniCache& config = spec_->minicache;
    std::vector<NaiveRow*> raw;
    for (auto& row : slots_[slot].front().rows)
      if (row.raw) raw.push_back(&row);
    if (raw.empty()) return;
    std::vector<bool> k(raw.size(), true), v(raw.size(), true);
    if (config.keys) k = rows_apart(raw, true, retention_[2 * slot], phase);
    if (config.values && config.index != MiniCache::Index::kKeys)
      v = rows_apart(raw, false, retention_[2 * slot + 1], phase);
    if (config.index == MiniCache::Index::kKeys) v = k;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const bool both = config.index == MiniCache::Index::kUnion && (k[i] || v[i]);
      if (!k[i] && !both) merge(raw[i]->k, RowKind::kKey, raw_k_);
      if (!v[i] && !both) merge(raw[i]->v, RowKind::kValue, raw_v_);
      raw[i]->raw = false;
    }
  }

  void merge(NaiveTensor& tensor, RowKind kind, Format format) const {
    const auto parts = parts_of(tensor);
    const auto heads = static_cast<std::size_t>(shape_.kv_heads), dim = static_cast<std::size_t>(shape_.head_dim);
    tensor.merged = true;
    std::vector<float> all;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const NaiveMerge part = naive_merge(spec_->minicache, parts[i].first, parts[i].second);
      all.insert(all.end(), part.merged.begin(), part.merged.end());
      for (std::size_t h = i * heads / parts.size(); h < (i + 1) * heads / parts.size(); ++h) {
        tensor.gains[0][h] = part.lower;
        tensor.gains[1][h] = part.deeper;
      }
    }
    for (std::size_t h = 0; h < heads; ++h)
      for (auto& view : tensor.codes)
        view[h] = through(kind, format, std::vector<float>(&all[h * dim], &all[h * dim] + dim));
  }

  // Rows wait for a group of their kind; kinds that are written as they came do not wait.
  void encode_old(std::vector<NaiveRow>& rows, int kind, bool pair) {
    const bool k_apart = pair && spec_->minicache.keys && (kind & 1) == 0;
    const bool v_apart = pair && spec_->minicache.values && (kind & 2) == 0;
    if ((raw_k_ == spec_->k || k_apart) && (raw_v_ == spec_->v || v_apart)) return;
    const auto waits = [&](const NaiveRow& row) {
      return row.exact && (row.k.merged ? 1 : 0) + (row.v.merged ? 2 : 0) == kind;
    };
    const auto exact = static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), waits));
    if (exact < 32) return;
    std::size_t n = (exact - 16) / 16 * 16;
    for (auto& row : rows)
      if (n > 0 && waits(row)) {
        encode(row, pair);
        --n;
      }
  }

  std::shared_ptr<const KvSpec> spec_;
  KvShape shape_;
  Format raw_k_, raw_v_;
  std::vector<std::vector<NaiveSet>> slots_;  // one set for each KV head, or one for all
  std::vector<NaiveRetention> retention_;     // [slot][keys, values]
  std::vector<NaiveSeen> seen_;               // since the last commit
};

}  // namespace lamina::testing
