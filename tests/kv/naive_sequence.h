// SPDX-License-Identifier: Apache-2.0
// The naive model of a KvSequence: every row by itself, in plain vectors.
#pragma once
#include <algorithm>
#include <memory>
#include <numbers>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kv/naive_merge.h"
#include "kv/naive_row.h"
#include "kv/sequence.h"

namespace lamina::testing {

// What KvSequence promises, row by row.
class NaiveSequence {
 public:
  NaiveSequence(std::shared_ptr<const KvSpec> spec, KvShape shape)
      : spec_(std::move(spec)),
        shape_(std::move(shape)),
        slots_(static_cast<std::size_t>(spec_->layers.slots())),
        retention_(2 * slots_.size()),
        queries_(slots_.size()),
        staged_queries_(slots_.size()) {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      const bool by_head = policy_of(slot) && policy_of(slot)->by_head() && !is_pair(slot);
      const int heads = by_head ? 1 : shape_.kv_heads;
      for (int h = 0; h < shape_.kv_heads; h += heads) slots_[slot].push_back({.first_head = h, .heads = heads});
    }
    check(!spec_->rotate, "rows are not rotated");
  }

  void append(LayerId layer, std::span<const Pos> pos, const float* k, const float* v) {
    const int tokens = static_cast<int>(pos.size());
    const Route& route = spec_->layers[layer];
    const auto slot = static_cast<std::size_t>(index(*route.writes));
    for (NaiveSet& set : slots_[slot])
      for (int t = 0; t < tokens; ++t) {
        if (route.view == 0) set.rows.push_back({.pos = pos[static_cast<std::size_t>(t)], .k = {}, .v = {}});
        NaiveRow& row = set.rows[set.rows.size() - static_cast<std::size_t>(route.view == 0 ? 1 : tokens - t)];
        check(row.pos == pos[static_cast<std::size_t>(t)] && row.raw, "the twin's own rows");
        for (auto* tensor : {&row.k, &row.v}) {
          auto& codes = tensor->codes[route.view];
          for (int h = set.first_head; h < set.first_head + set.heads; ++h) {
            const float* from =
                (tensor == &row.k ? k : v) + static_cast<std::ptrdiff_t>(t * shape_.kv_heads + h) * shape_.head_dim;
            codes.push_back(tensor == &row.k
                                ? through(RowKind::kKey, raw(slot, true), {from, from + shape_.head_dim})
                                : through(RowKind::kValue, raw(slot, false), {from, from + shape_.head_dim}));
          }
          tensor->gains[route.view].assign(codes.size(), 1);
        }
      }
  }

  void append(LayerId layer, int tokens, const float* k, const float* v) {
    std::vector<Pos> pos(static_cast<std::size_t>(tokens));
    std::iota(pos.begin(), pos.end(), length);
    append(layer, pos, k, v);
  }

  // What is measured of a layer's queries in a step.
  Observe observed(LayerId layer, int tokens, Phase phase) const {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[layer].reads));
    if (!policy_of(slot) || readers_of(slot, layer).second < 0) return {};
    if (policy_of(slot)->probes() > 0) return {};  // see see_most()
    const Observe what = policy_of(slot)->observes(ahead(phase, tokens));
    return what.first_query < length + tokens ? what : Observe{};
  }
  // Sums that the policy will not look at are gone, others stay: rows' sums as the step is committed.
  void observe(LayerId layer, const Observe& what) {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[layer].reads));
    for (NaiveSet& set : slots_[slot])
      set_columns(set, readers_of(slot, layer).first * set.heads, what.columns(shape_.query_group));
  }
  void see(const NaiveSeen& seen) { seen_.push_back(seen); }
  // Which of a prompt's rows the layer after this one gets, by what was seen of them.
  Keep survivors(LayerId layer, int tokens, std::span<const Pos> pos) const {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[layer].reads));
    const auto heads = static_cast<std::size_t>(shape_.kv_heads);
    if (!policy_of(slot) || !policy_of(slot)->prunes() || !observed(layer, tokens, Phase::kPrompt).any())
      return every_row({.pos = pos});
    std::vector<float> mass(pos.size() * heads);
    for (const NaiveSeen& seen : seen_) {
      const auto at = static_cast<std::size_t>(std::ranges::lower_bound(pos, seen.pos) - pos.begin());
      if (seen.layer == layer && at < pos.size() && pos[at] == seen.pos)
        mass[at * heads + static_cast<std::size_t>(seen.head)] += static_cast<float>(seen.weight);
    }
    return policy_of(slot)->prune(index(layer), shape_.layers, length, length + tokens,
                                  {.pos = pos, .mass = mass, .columns = shape_.kv_heads});
  }
  // What a probe's query gave a row of the prompt: the most of any stays.
  void see_most(const NaiveSeen& seen) {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[seen.layer].reads));
    double& most = sum_of(slot, seen, 1);
    most = std::max(most, seen.weight);
  }
  // Where the queries of a layer in a step of a prompt go, of policies that want their moments: [query head].
  std::vector<QueryMoments>& stage_queries(LayerId layer) {
    const auto slot = static_cast<std::size_t>(index(spec_->layers[layer].reads));
    const auto heads = static_cast<std::size_t>(shape_.kv_heads * shape_.query_group);
    if (queries_[slot].empty()) queries_[slot].assign(heads, QueryMoments(shape_.head_dim));
    return staged_queries_[slot] = queries_[slot];
  }
  void note_classes(const std::vector<TokenClass>& classes) {
    classes_.resize(static_cast<std::size_t>(length));
    classes_.insert(classes_.end(), classes.begin(), classes.end());
  }

  void commit(Phase phase, int accepted) {
    add_seen(phase, accepted);
    if (phase != Phase::kDecode && !in_prompt_) prompt_start = length;
    in_prompt_ = phase == Phase::kPrompt;
    length += accepted;
    for (std::size_t s = 0; s < slots_.size(); ++s)
      if (!staged_queries_[s].empty()) queries_[s] = std::exchange(staged_queries_[s], {});
    if (classes_.size() > static_cast<std::size_t>(length)) classes_.resize(static_cast<std::size_t>(length));
    if (phase != Phase::kDecode) prompt = length;
    accepted_ = accepted;
    const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length % spec_->grid == 0);
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      const Pos window = spec_->layers.window(SlotId{static_cast<int>(s)});
      for (NaiveSet& set : slots_[s]) {
        std::erase_if(set.rows, [&](const NaiveRow& row) { return row.pos >= length; });
        if (window > 0) std::erase_if(set.rows, [&](const NaiveRow& row) { return row.pos <= length - window; });
      }
      if (!lossy) continue;
      const bool evicted = policy_of(s) && evict(s, phase);
      if (phase == Phase::kPromptEnd) queries_[s].clear();
      if (is_pair(s)) merge(s, phase);
      for (NaiveSet& set : slots_[s]) {
        for (auto& row : set.rows)
          if (evicted && row.exact && row.pos < policy_of(s)->pinned_rows()) encode(row, s);
        for (int kind = 0; kind < 4; ++kind) encode_old(set.rows, kind, s);
      }
    }
  }

  void truncate(Pos to) {
    length = to;
    prompt_start = std::min(prompt_start, to);
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
    std::size_t sums = 0, moments = 0;
    for (const auto& sets : slots_)
      for (const NaiveSet& set : sets) sums += set.rows.size() * static_cast<std::size_t>(set.columns);
    for (const auto* queries : {&queries_, &staged_queries_})
      for (const auto& slot : *queries)
        for (const QueryMoments& head : slot) moments += head.bytes();
    return sums * sizeof(float) + moments;
  }

  Pos length = 0, prompt_start = 0, prompt = 0;

 private:
  // A prompt is said to end with its step: nobody has told the store better.
  Ahead ahead(Phase phase, int tokens) const {
    const Pos prompt_end = phase == Phase::kDecode ? prompt : tokens > 0 ? length + tokens : Ahead::kUnknown;
    return {.phase = phase, .length = length, .prompt_end = prompt_end, .grid = spec_->grid};
  }

  bool is_pair(std::size_t slot) const { return spec_->layers.views(SlotId{static_cast<int>(slot)}) == 2; }
  // Whether the row's tensor is one that MiniCache has kept apart: such rows are never encoded.
  bool apart(const NaiveTensor& tensor, bool merges, bool pair) const { return pair && merges && !tensor.merged; }

  const TokenPolicy* policy_of(std::size_t slot) const { return (*spec_)[SlotId{static_cast<int>(slot)}].tokens.get(); }
  // The format of rows that have left the tail, and of those in it.
  Format encoded(std::size_t slot, bool key) const {
    const SlotSpec& of = (*spec_)[SlotId{static_cast<int>(slot)}];
    return key ? of.k : of.v;
  }
  Format raw(std::size_t slot, bool key) const {
    return encoded(slot, key) == Format::kF32 ? Format::kF32 : Format::kF16;
  }

  void encode(NaiveRow& row, std::size_t slot) const {
    row.exact = false;
    if ((*spec_)[SlotId{static_cast<int>(slot)}].kivi) return;  // see is_near()
    for (auto* tensor : {&row.k, &row.v}) {
      const bool key = tensor == &row.k;
      const Format to = encoded(slot, key);
      const bool merges = key ? spec_->minicache.keys : spec_->minicache.values;
      if (raw(slot, key) == to || apart(*tensor, merges, is_pair(slot))) continue;
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
      if (route.writes != route.reads && policy_of(slot)->readers() == Readers::kOwner) continue;
      if (layer == LayerId{i}) found = readers;
      ++readers;
    }
    return {readers, found};
  }

  void add_seen(Phase phase, int accepted) {
    for (const NaiveSeen& seen : seen_) {
      if (seen.token >= accepted) continue;
      const auto slot = static_cast<std::size_t>(index(spec_->layers[seen.layer].reads));
      sum_of(slot, seen, policy_of(slot)->observes(ahead(phase, 1)).columns(shape_.query_group)) += seen.weight;
    }
    seen_.clear();
  }
  double& sum_of(std::size_t slot, const NaiveSeen& seen, int columns) {
    auto& sets = slots_[slot];
    NaiveSet& set = sets[sets.size() > 1 ? static_cast<std::size_t>(seen.head) : 0];
    const auto row = std::ranges::lower_bound(set.rows, seen.pos, {}, &NaiveRow::pos);
    check(row != set.rows.end() && row->pos == seen.pos, "what was seen is held");
    row->mass.resize(static_cast<std::size_t>(set.columns));
    const int head = readers_of(slot, seen.layer).second * set.heads + seen.head - set.first_head;
    return row->mass[static_cast<std::size_t>(head * columns + seen.column)];
  }

  // Whether rows went.
  bool evict(std::size_t slot, Phase phase) {
    auto& sets = slots_[slot];
    const TokenPolicy& policy = *policy_of(slot);
    const Step step{.phase = phase,
                    .length = length,
                    .prompt_start = policy.by_prompt() ? prompt_start : 0,
                    .prompt_length = prompt,
                    .appended = accepted_,
                    .window = spec_->layers.window(SlotId{static_cast<int>(slot)}),
                    .slot = static_cast<int>(slot),
                    .slots = static_cast<int>(slots_.size())};
    if (!policy.selects(step)) return false;
    const int readers = std::max(1, readers_of(slot, LayerId{}).first);
    std::vector<std::vector<Pos>> pos(sets.size());
    std::vector<std::vector<float>> mass(sets.size()), key_norms(sets.size()), value_norms(sets.size()),
        keys(sets.size());
    std::vector<HeadRows> heads;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      for (NaiveRow& row : sets[i].rows) {
        row.mass.resize(static_cast<std::size_t>(sets[i].columns));
        if (policy.by_prompt() && row.pos < prompt_start) continue;
        pos[i].push_back(row.pos);
        mass[i].insert(mass[i].end(), row.mass.begin(), row.mass.end());
        if (policy.reads_keys(phase)) key_norms[i].push_back(norm(row.k.codes[0][0]));
        if (!policy.reads_rows(phase)) continue;
        value_norms[i].push_back(norm(row.v.codes[0][0]));
        keys[i].insert(keys[i].end(), row.k.codes[0][0].begin(), row.k.codes[0][0].end());
      }
      const std::size_t group = queries_[slot].size() / sets.size();
      heads.push_back({.pos = pos[i],
                       .mass = mass[i],
                       .readers = readers,
                       .columns = sets[i].columns / readers,
                       .combined = policy.readers(),
                       .kinds = policy.observes(ahead(phase, 0)).kinds(),
                       .key_norms = key_norms[i],
                       .keys = keys[i],
                       .value_norms = value_norms[i],
                       .queries = std::span(queries_[slot]).subspan(i * group, group),
                       .classes = classes_,
                       .tag = &sets[i].tag});
    }
    std::vector<Keep> keep(sets.size());
    policy.select(step, heads, keep);
    bool evicted = false;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      const std::size_t before = sets[i].rows.size() - pos[i].size();  // left of earlier prompts and answers
      std::vector<NaiveRow> kept(sets[i].rows.begin(), sets[i].rows.begin() + static_cast<std::ptrdiff_t>(before));
      for (const auto row : keep[i]) kept.push_back(sets[i].rows[before + row]);
      evicted = evicted || kept.size() < sets[i].rows.size();
      sets[i].rows = kept;
    }
    const Observe next = policy.observes(ahead(phase == Phase::kPrompt ? phase : Phase::kDecode, 0));
    const bool goes_on = next.first_query < length && (phase == Phase::kPrompt || next.first_query == 0);
    const int columns = goes_on ? next.columns(shape_.query_group) : 0;
    for (NaiveSet& set : sets)
      if (const int lists = readers * set.heads; set.columns > lists * columns)
        reduce(set, lists, policy.observes(ahead(Phase::kPrompt, 0)).kinds(), columns);
    return evicted;
  }

  // So many sums for each of the lists: of a reader's head.
  static void set_columns(NaiveSet& set, int lists, int columns) {
    const int before = set.columns / lists;
    for (NaiveRow& row : set.rows) {
      row.mass.resize(static_cast<std::size_t>(set.columns));
      std::vector<double> sums;
      for (int list = 0; list < lists; ++list)
        for (int c = 0; c < columns; ++c)
          sums.push_back(c < before ? row.mass[static_cast<std::size_t>(list * before + c)] : 0);
      row.mass = sums;
    }
    set.columns = lists * columns;
  }

  // Of each reader's head nothing is left, or one sum of its first kind.
  void reduce(NaiveSet& set, int lists, int kinds, int columns) const {
    for (NaiveRow& row : set.rows) {
      std::vector<double> sums(static_cast<std::size_t>(lists * columns));
      row.mass.resize(static_cast<std::size_t>(set.columns));
      for (int i = 0; i < set.columns && columns > 0; i += kinds)
        sums[static_cast<std::size_t>(i / (set.columns / lists))] += row.mass[static_cast<std::size_t>(i)];
      row.mass = sums;
    }
    set.columns = lists * columns;
  }

  // [raw row] which are kept apart in one tensor.
  std::vector<bool> rows_apart(const std::vector<NaiveRow*>& fresh, bool key, NaiveRetention& retention, Phase phase) {
    std::vector<double> d;
    for (const NaiveRow* row : fresh) {
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
    std::vector<NaiveRow*> fresh;
    for (auto& row : slots_[slot].front().rows)
      if (row.raw) fresh.push_back(&row);
    if (fresh.empty()) return;
    std::vector<bool> k(fresh.size(), true), v(fresh.size(), true);
    if (config.keys) k = rows_apart(fresh, true, retention_[2 * slot], phase);
    if (config.values && config.index != MiniCache::Index::kKeys)
      v = rows_apart(fresh, false, retention_[2 * slot + 1], phase);
    if (config.index == MiniCache::Index::kKeys) v = k;
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      const bool both = config.index == MiniCache::Index::kUnion && (k[i] || v[i]);
      if (!k[i] && !both) merge(fresh[i]->k, RowKind::kKey, raw(slot, true));
      if (!v[i] && !both) merge(fresh[i]->v, RowKind::kValue, raw(slot, false));
      fresh[i]->raw = false;
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
  void encode_old(std::vector<NaiveRow>& rows, int kind, std::size_t slot) {
    const bool pair = is_pair(slot);
    const bool k_apart = pair && spec_->minicache.keys && (kind & 1) == 0;
    const bool v_apart = pair && spec_->minicache.values && (kind & 2) == 0;
    if ((raw(slot, true) == encoded(slot, true) || k_apart) && (raw(slot, false) == encoded(slot, false) || v_apart))
      return;
    const auto waits = [&](const NaiveRow& row) {
      return row.exact && (row.k.merged ? 1 : 0) + (row.v.merged ? 2 : 0) == kind;
    };
    const auto exact = static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), waits));
    if (exact < 32) return;
    std::size_t n = (exact - 16) / 16 * 16;
    for (auto& row : rows)
      if (n > 0 && waits(row)) {
        encode(row, slot);
        --n;
      }
  }

  std::shared_ptr<const KvSpec> spec_;
  KvShape shape_;
  std::vector<std::vector<NaiveSet>> slots_;                         // one set for each KV head, or one for all
  std::vector<NaiveRetention> retention_;                            // [slot][keys, values]
  std::vector<std::vector<QueryMoments>> queries_, staged_queries_;  // [slot][query head]
  std::vector<TokenClass> classes_;                                  // [position]
  std::vector<NaiveSeen> seen_;                                      // since the last commit
  int accepted_ = 0;                                                 // tokens of the last commit
  bool in_prompt_ = false;
};

}  // namespace lamina::testing
