// SPDX-License-Identifier: Apache-2.0
// Random operations on KvSequences, checked after each one against a naive model that keeps every row by itself. Shared
// by the test and the fuzz target: operations come from bytes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kv/bits/encode.h"
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

// MiniCache by its formulas, in double: what two rows of one tensor become.
struct NaiveMerge {
  std::vector<float> merged;
  double lower = 1, deeper = 1;
};
inline double naive_dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}
inline double naive_angle(std::span<const float> p, std::span<const float> c) {
  const double p_norm = std::sqrt(naive_dot(p, p)), c_norm = std::sqrt(naive_dot(c, c));
  if (p_norm == 0 || c_norm == 0) return 0;
  double minus = 0, plus = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    minus += std::pow(p[i] / p_norm - c[i] / c_norm, 2);
    plus += std::pow(p[i] / p_norm + c[i] / c_norm, 2);
  }
  return 2 * std::atan2(std::sqrt(minus), std::sqrt(plus));
}
// Of rows that are neither zero nor parallel nor opposite.
inline NaiveMerge naive_merge(const MiniCache& config, std::span<const float> p, std::span<const float> c) {
  NaiveMerge result{.merged = std::vector<float>(p.size())};
  const double omega = naive_angle(p, c), p_norm = std::sqrt(naive_dot(p, p)), c_norm = std::sqrt(naive_dot(c, c));
  const double largest = std::max(p_norm, c_norm);
  const double a = std::sin((1 - config.t) * omega) / std::sin(omega), b = std::sin(config.t * omega) / std::sin(omega);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double e = a * p[i] / p_norm + b * c[i] / c_norm;
    result.merged[i] = config.merge == MiniCache::Merge::kMean ? (p[i] + c[i]) / 2
                       : config.merge == MiniCache::Merge::kMaxNorm
                           ? static_cast<float>(e) * static_cast<float>(largest)
                           : static_cast<float>(e);
  }
  if (config.merge == MiniCache::Merge::kSlerp) {
    result.lower = f32_from_f16(f16_from_f32(static_cast<float>(p_norm)));
    result.deeper = f32_from_f16(f16_from_f32(static_cast<float>(c_norm)));
  }
  return result;
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
};

// Which rows of one tensor of a pair are kept apart (1.5 and 1.6 of the specification, R11).
struct NaiveRetention {
  bool seen = false;
  double least = 0, most = 0, smallest_kept = 0;

  std::vector<bool> prompt(const MiniCache& config, const std::vector<double>& d) {
    std::vector<bool> apart(d.size());
    if (d.empty()) return apart;
    least = seen ? std::min(least, *std::min_element(d.begin(), d.end())) : *std::min_element(d.begin(), d.end());
    most = seen ? std::max(most, *std::max_element(d.begin(), d.end())) : *std::max_element(d.begin(), d.end());
    seen = true;
    const auto count = static_cast<std::size_t>(std::ceil(config.keep * static_cast<double>(d.size())));
    smallest_kept = config.keep >= 1 ? -1 : 2;
    for (std::size_t i = 0; i < d.size(); ++i) {
      if (config.rule != MiniCache::Rule::kTop) {
        apart[i] = decoded(config, d[i]);
        continue;
      }
      std::size_t before = 0;  // rows that go before this one
      for (std::size_t j = 0; j < d.size(); ++j) before += d[j] > d[i] || (d[j] == d[i] && j < i);
      apart[i] = before < count;
      if (apart[i] && config.keep < 1) smallest_kept = std::min(smallest_kept, d[i]);
    }
    return apart;
  }
  bool decoded(const MiniCache& config, double d) const {
    if (!seen) return false;
    const auto cosine = [](double x) { return std::cos(x * std::numbers::pi); };
    switch (config.rule) {
      case MiniCache::Rule::kDistance:
        return d > most - config.keep * (most - least);
      case MiniCache::Rule::kTop:
        return d >= smallest_kept;
      case MiniCache::Rule::kCosine:
        return cosine(d) < cosine(most) + config.keep * (cosine(least) - cosine(most));
      default:
        return d < least + config.keep * (most - least);
    }
  }
};

// What KvSequence promises, row by row.
class NaiveSequence {
 public:
  NaiveSequence(std::shared_ptr<const KvSpec> spec, KvShape shape)
      : spec_(std::move(spec)),
        shape_(std::move(shape)),
        slots_(static_cast<std::size_t>(spec_->layers.slots())),
        retention_(2 * slots_.size()) {
    raw_k_ = spec_->k == Format::kF32 ? Format::kF32 : Format::kF16;
    raw_v_ = spec_->v == Format::kF32 ? Format::kF32 : Format::kF16;
  }

  void append(LayerId layer, int tokens, const float* k, const float* v) {
    const Route& route = spec_->layers[layer];
    auto& rows = slots_[static_cast<std::size_t>(index(*route.writes))];
    for (int t = 0; t < tokens; ++t) {
      if (route.view == 0) rows.push_back({.pos = length + t, .k = {}, .v = {}});
      NaiveRow& row = rows[rows.size() - static_cast<std::size_t>(route.view == 0 ? 1 : tokens - t)];
      check(row.pos == length + t && row.raw, "the twin's own rows");
      for (auto* tensor : {&row.k, &row.v}) {
        auto& codes = tensor->codes[route.view];
        for (int h = 0; h < shape_.kv_heads; ++h) {
          const float* from =
              (tensor == &row.k ? k : v) + static_cast<std::ptrdiff_t>(t * shape_.kv_heads + h) * shape_.head_dim;
          codes.push_back(tensor == &row.k ? through(RowKind::kKey, raw_k_, {from, from + shape_.head_dim})
                                           : through(RowKind::kValue, raw_v_, {from, from + shape_.head_dim}));
        }
        tensor->gains[route.view].assign(codes.size(), 1);
      }
    }
  }

  void commit(Phase phase, int accepted) {
    length += accepted;
    if (phase != Phase::kDecode) prompt = length;
    const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length % spec_->grid == 0);
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      auto& rows = slots_[s];
      std::erase_if(rows, [&](const NaiveRow& row) { return row.pos >= length; });
      const Pos window = spec_->layers.window(SlotId{static_cast<int>(s)});
      if (window > 0) std::erase_if(rows, [&](const NaiveRow& row) { return row.pos <= length - window; });
      if (!lossy) continue;
      const bool evicted = spec_->tokens && evict(rows, phase, static_cast<int>(s));
      if (is_pair(s)) merge(s, phase);
      for (auto& row : rows)
        if (evicted && row.exact && row.pos < spec_->tokens->pinned_rows()) encode(row, is_pair(s));
      for (int kind = 0; kind < 4; ++kind) encode_old(rows, kind, is_pair(s));
    }
  }

  void truncate(Pos to) {
    length = to;
    prompt = std::min(prompt, to);
    for (auto& rows : slots_) std::erase_if(rows, [&](const NaiveRow& row) { return row.pos >= to; });
  }

  const std::vector<NaiveRow>& rows(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

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

  // Whether rows went.
  bool evict(std::vector<NaiveRow>& rows, Phase phase, int slot) {
    std::vector<Pos> pos;
    for (const auto& row : rows) pos.push_back(row.pos);
    const std::vector<HeadRows> heads(static_cast<std::size_t>(shape_.kv_heads), HeadRows{.pos = pos});
    const Step step{.phase = phase,
                    .length = length,
                    .prompt_length = prompt,
                    .slot = slot,
                    .slots = static_cast<int>(slots_.size())};
    const Keep keep = spec_->tokens->select(step, heads);
    if (keep.size() == rows.size()) return false;
    std::vector<NaiveRow> kept;
    for (const auto row : keep) kept.push_back(rows[row]);
    rows = kept;
    return true;
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
    for (auto& row : slots_[slot])
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
  std::vector<std::vector<NaiveRow>> slots_;
  std::vector<NaiveRetention> retention_;  // [slot][keys, values]
};

inline double gain_of(const BlockMemory& memory, const Plane& gains, std::uint32_t row) {
  if (!gains) return 1;
  std::uint16_t half = 0;
  std::memcpy(&half, gains.tile(memory, row / kTileRows) + row % kTileRows * sizeof half, sizeof half);
  return f32_from_f16(half);
}

// One head of one layer: its segments hold exactly the naive rows, bit for bit, each once.
inline void expect_same_head(KvSequence& kv, std::span<const Segment> segments, const std::vector<NaiveRow>& rows,
                             int view, std::size_t head) {
  std::vector<bool> found(rows.size());
  std::vector<Pos> seen;  // positions as a query sees them
  std::vector<float> x(static_cast<std::size_t>(kv.shape().head_dim));
  const auto same = [&](const RowPlanes& planes, std::uint32_t row, const std::vector<float>& codes) {
    read_row(planes, row, x.data());
    return std::memcmp(x.data(), codes.data(), x.size() * sizeof(float)) == 0;
  };
  Pos previous = -1;
  for (const Segment& s : segments)
    for (std::uint32_t i = 0; i < s.rows(); ++i) {
      const auto at =
          static_cast<std::size_t>(std::ranges::lower_bound(rows, s.pos[i], {}, &NaiveRow::pos) - rows.begin());
      check(at < rows.size() && rows[at].pos == s.pos[i] && !found[at], "a position that is not held, or twice");
      found[at] = true;
      const NaiveRow& row = rows[at];
      check(s.pos[i] > previous, "positions of a segment ascend");
      previous = i + 1 < s.rows() ? s.pos[i] : -1;
      seen.push_back(s.pos[i] + s.shift);
      const auto v = static_cast<std::size_t>(view);
      const RowPlanes k_planes{kv.memory(), RowKind::kKey, s.k_format, kv.shape().head_dim, s.k_codes, s.k_scales};
      const RowPlanes v_planes{kv.memory(), RowKind::kValue, s.v_format, kv.shape().head_dim, s.v_codes, s.v_scales};
      check(same(k_planes, s.first + i, row.k.codes[v][head]), "key bytes");
      check(same(v_planes, s.first + i, row.v.codes[v][head]), "value bytes");
      check(gain_of(kv.memory(), s.k_gains, s.first + i) == row.k.gains[v][head], "key gain");
      check(gain_of(kv.memory(), s.v_gains, s.first + i) == row.v.gains[v][head], "value gain");
    }
  check(seen.size() == rows.size(), "row count");
  if (kv.spec().tokens == nullptr || !kv.spec().tokens->renumbers()) return;
  std::sort(seen.begin(), seen.end());
  for (std::size_t i = 1; i < seen.size(); ++i) check(seen[i] == seen[i - 1] + 1, "re-numbered positions");
}

inline void expect_same(KvSequence& kv, const NaiveSequence& naive) {
  check(kv.length() == naive.length, "length");
  for (int layer = 0; layer < kv.shape().layers; ++layer) {
    const Route& route = kv.spec().layers[LayerId{layer}];
    const auto heads = kv.segments(LayerId{layer});
    check(heads.size() == static_cast<std::size_t>(kv.shape().kv_heads), "heads");
    for (std::size_t h = 0; h < heads.size(); ++h)
      expect_same_head(kv, heads[h], naive.rows(index(route.reads)), route.view, h);
  }
}

// Reads operations from bytes and applies them to up to four sequences and their naive twins.
class KvOps {
 public:
  KvOps(const std::string& spec, KvShape shape)
      : shape_(shape), spec_(std::make_shared<KvSpec>(KvSpec::parse(spec, shape))), pool_(shape, 64 << 20) {
    twins_.push_back({KvSequence(spec_, shape_, pool_), NaiveSequence(spec_, shape_)});
  }

  void run(std::span<const std::uint8_t> bytes) {
    for (std::size_t i = 0; i + 2 < bytes.size(); i += 3) {
      apply(bytes[i], bytes[i + 1], bytes[i + 2]);
      for (auto& [kv, naive] : twins_) expect_same(kv, naive);
      std::size_t bytes_held = 0;
      for (const auto& [kv, naive] : twins_) bytes_held += kv.bytes().total();
      check(bytes_held >= pool_.held_bytes(), "bytes() counts less than the pool holds");
      if (twins_.size() == 1) {
        const KvBytes b = twins_[0].kv.bytes();
        check(b.total() - b.positions < pool_.held_bytes() + (std::size_t{1} << 16), "bytes() counts too much");
      }
    }
    twins_.clear();
    check(pool_.held_bytes() == 0, "blocks leaked");
  }

 private:
  struct Twins {
    KvSequence kv;
    NaiveSequence naive;
  };

  void apply(std::uint8_t op, std::uint8_t which, std::uint8_t argument) {
    Twins& t = twins_[which % twins_.size()];
    switch (op % 8) {
      case 0:
      case 1:
        return step(t, Phase::kDecode, 1, 1);
      case 2:
        return step(t, Phase::kPromptEnd, 1 + argument % 70, 0);
      case 3:
        return step(t, Phase::kPrompt, 1 + argument % 40, 0);
      case 4: {  // speculation: some of the appended tokens are refused
        const int appended = 1 + argument % 7;
        return step(t, Phase::kDecode, appended, argument / 8 % (appended + 1));
      }
      case 5:
        if (twins_.size() < 4) twins_.push_back({t.kv.fork(), t.naive});
        return;
      case 6:
        if (twins_.size() > 1) twins_.erase(twins_.begin() + which % static_cast<std::ptrdiff_t>(twins_.size()));
        return;
      default: {
        const Pos to = t.kv.length() - argument % 24;
        try {
          t.kv.truncate(to);
        } catch (const Error&) {
          return;  // refused: nothing may have changed, which the comparison sees
        }
        t.naive.truncate(to);
      }
    }
  }

  void step(Twins& t, Phase phase, int tokens, int accepted) {
    if (t.kv.length() > 400) return;
    if (phase != Phase::kDecode) accepted = tokens = std::min(tokens, t.kv.step_limit());
    std::vector<float> k(static_cast<std::size_t>(tokens * shape_.kv_heads * shape_.head_dim)), v(k.size());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const auto writes = spec_->layers[LayerId{layer}].writes;
      if (!writes) continue;
      for (float& x : k) x = random();
      for (float& x : v) x = random();
      t.kv.append(LayerId{layer}, t.kv.length(), tokens, k.data(), v.data());
      t.naive.append(LayerId{layer}, tokens, k.data(), v.data());
    }
    t.kv.commit(phase, tokens, accepted);
    t.naive.commit(phase, accepted);
  }

  float random() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-29F;
  }

  KvShape shape_;
  std::shared_ptr<const KvSpec> spec_;
  BlockPool pool_;
  std::vector<Twins> twins_;
  std::uint64_t state_ = 1;
};

}  // namespace lamina::testing
