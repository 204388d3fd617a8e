// SPDX-License-Identifier: Apache-2.0
// Random operations on KvSequences, checked after each one against the naive model. Shared by the test and the fuzz
// target: operations come from bytes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kv/bits/encode.h"
#include "kv/naive_sequence.h"
#include "kv/sequence.h"

namespace lamina::testing {

inline double gain_of(const BlockMemory& memory, const Plane& gains, std::uint32_t row) {
  if (!gains) return 1;
  std::uint16_t half = 0;
  std::memcpy(&half, gains.tile(memory, row / kTileRows) + row % kTileRows * sizeof half, sizeof half);
  return f32_from_f16(half);
}

inline bool is_dead(const Segment& s, std::uint32_t i) {
  const std::uint32_t row = s.first + i;
  return s.dead != nullptr && (s.dead[row / kTileRows - s.first_tile()] >> row % kTileRows & 1) != 0;
}

// Of KIVI the naive model knows the exact rows only; which of them are encoded is tests/kv/kivi_test.cpp's. Numbers are
// within +-4.
inline bool is_near(Format format, const std::vector<float>& found, const std::vector<float>& exact) {
  const double step = has_minima(format) ? 8.0 / ((1 << bits(format)) - 1) : 0;
  for (std::size_t c = 0; c < found.size(); ++c)
    if (!(std::fabs(double{found[c]} - exact[c]) <= step / 2 * 1.02 + (step > 0 ? 0.01 : 0))) return false;
  return true;
}

// One head of one layer: its segments hold exactly the naive rows, bit for bit, each once.
inline void expect_same_head(KvSequence& kv, std::span<const Segment> segments, const std::vector<NaiveRow>& rows,
                             const Route& route, std::size_t head, bool renumbers) {
  const Kivi& kivi = kv.spec()[route.reads].kivi;
  std::vector<bool> found(rows.size());
  std::vector<Pos> seen;  // positions as a query sees them
  std::vector<float> x(static_cast<std::size_t>(kv.shape().head_dim));
  const auto same = [&](const RowPlanes& planes, std::uint32_t row, const std::vector<float>& codes) {
    read_row(planes, row, x.data());
    if (kivi) return is_near(planes.format, x, codes);
    return std::memcmp(x.data(), codes.data(), x.size() * sizeof(float)) == 0;
  };
  Pos previous = -1;
  for (const Segment& s : segments)
    for (std::uint32_t i = 0; i < s.rows(); ++i) {
      if (is_dead(s, i)) continue;
      const auto at =
          static_cast<std::size_t>(std::ranges::lower_bound(rows, s.pos[i], {}, &NaiveRow::pos) - rows.begin());
      check(at < rows.size() && rows[at].pos == s.pos[i] && !found[at], "a position that is not held, or twice");
      found[at] = true;
      const NaiveRow& row = rows[at];
      check(s.pos[i] > previous, "positions of a segment ascend");
      previous = i + 1 < s.rows() ? s.pos[i] : -1;
      seen.push_back(s.pos[i] + s.shift);
      const auto v = static_cast<std::size_t>(route.view);
      const RowPlanes k_planes{kv.memory(), RowKind::kKey, s.k_format, kv.shape().head_dim, s.k_codes, s.k_scales};
      const RowPlanes v_planes{kv.memory(), RowKind::kValue, s.v_format, kv.shape().head_dim, s.v_codes, s.v_scales};
      check(same(k_planes, s.first + i, row.k.codes[v][head]), "key bytes");
      check(same(v_planes, s.first + i, row.v.codes[v][head]), "value bytes");
      check(gain_of(kv.memory(), s.k_gains, s.first + i) == row.k.gains[v][head], "key gain");
      check(gain_of(kv.memory(), s.v_gains, s.first + i) == row.v.gains[v][head], "value gain");
    }
  check(seen.size() == rows.size(), std::to_string(seen.size()) + " rows instead of " + std::to_string(rows.size()));
  if (!renumbers) return;
  std::sort(seen.begin(), seen.end());
  for (std::size_t i = 1; i < seen.size(); ++i) check(seen[i] == seen[i - 1] + 1, "re-numbered positions");
}

inline void expect_same(KvSequence& kv, const NaiveSequence& naive) {
  check(kv.length() == naive.length, "length");
  for (int layer = 0; layer < kv.shape().layers; ++layer) {
    const Route& route = kv.spec().layers[LayerId{layer}];
    const auto heads = kv.segments(LayerId{layer});
    const TokenPolicy* const policy = kv.spec()[route.reads].tokens.get();
    check(heads.size() == static_cast<std::size_t>(kv.shape().kv_heads), "heads");
    for (int h = 0; h < kv.shape().kv_heads; ++h) {
      const NaiveSet& set = naive.set_of(index(route.reads), h);
      expect_same_head(kv, heads[static_cast<std::size_t>(h)], set.rows, route,
                       static_cast<std::size_t>(h - set.first_head), policy != nullptr && policy->renumbers());
    }
  }
  check(kv.bytes().mass == naive.mass_bytes(), "bytes of what was measured");
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
        check(b.total() - b.positions - b.mass < pool_.held_bytes() + (std::size_t{1} << 16),
              "bytes() counts too much");
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
    if (phase != Phase::kDecode) accepted = tokens = t.kv.prompt_step(tokens, tokens);
    const bool probes = spec_->probes() > 0 && phase == Phase::kPromptEnd;
    if (probes) phase = Phase::kPrompt;
    note_classes(t, tokens);
    std::vector<Pos> pos(static_cast<std::size_t>(tokens));
    std::iota(pos.begin(), pos.end(), t.kv.length());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      if (spec_->layers[LayerId{layer}].writes) append(t, LayerId{layer}, pos);
      observe(t, LayerId{layer}, tokens, phase);
      if (phase == Phase::kDecode) continue;
      const Keep keep = t.kv.survivors(LayerId{layer}, tokens, pos);
      check(keep == t.naive.survivors(LayerId{layer}, tokens, pos), "the rows that the next layer gets");
      std::ranges::transform(keep, pos.begin(), [&](std::uint32_t row) { return pos[row]; });
      pos.resize(keep.size());
    }
    check(t.kv.bytes().mass == t.naive.mass_bytes() + staged_bytes_, "bytes of what is staged");
    staged_bytes_ = 0;
    t.kv.commit(phase, tokens, accepted);
    t.naive.commit(phase, accepted);
    if (!probes) return;
    probe(t, 20);
    t.kv.commit(Phase::kPromptEnd, 0);
    t.naive.commit(Phase::kPromptEnd, 0);
  }

  void append(Twins& t, LayerId layer, std::span<const Pos> pos) {
    std::vector<float> k(pos.size() * static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim)), v(k.size());
    for (float& x : k) x = random();
    for (float& x : v) x = random();
    t.kv.append(layer, pos, k.data(), v.data());
    t.naive.append(layer, pos, k.data(), v.data());
  }

  void note_classes(Twins& t, int tokens) {
    if (!t.kv.wants_classes()) return;
    std::vector<TokenClass> classes;
    for (int i = 0; i < tokens; ++i) classes.push_back(random() < 0 ? TokenClass::kOther : TokenClass::kPunctuation);
    t.kv.note_classes(t.kv.length(), classes);
    t.naive.note_classes(classes);
  }

  // Two steps after the prompt whose attention to it is observed, and of which nothing else stays.
  void probe(Twins& t, int tokens) {
    t.kv.begin_probe();
    std::vector<float> x(static_cast<std::size_t>(tokens * shape_.kv_heads * shape_.head_dim));
    for (int step = 0; step < 2; ++step) {
      for (int i = 0; i < shape_.layers; ++i) {
        const LayerId layer{i};
        if (spec_->layers[layer].writes) t.kv.append(layer, t.kv.next(), tokens, x.data(), x.data());
        const auto heads = t.kv.segments(layer);
        const Observation to = t.kv.observe(layer, tokens, true);
        if (to.mass.empty()) continue;
        check(to.what.most && to.what.columns(shape_.query_group) == 1, "how a probe is observed");
        t.naive.observe(layer, to.what);
        for (std::size_t h = 0; h < heads.size(); ++h) {
          std::size_t first = 0;
          for (const Segment& s : heads[h]) {
            for (std::uint32_t row = 0; row < s.rows(); ++row) {
              if (is_dead(s, row) || s.pos[row] >= t.kv.length()) continue;
              const float weight = std::fabs(random());
              float& most = to.mass[h][first + s.first % kTileRows + row];
              most = std::max(most, weight);
              t.naive.see_most({layer, static_cast<int>(h), s.pos[row], 0, 0, weight});
            }
            first += s.range().padded();
          }
        }
      }
      t.kv.keep_probe(tokens);
    }
    t.kv.discard();
  }

  // The same random queries for both.
  void add_queries(Twins& t, LayerId layer, std::span<QueryMoments> to, int tokens) {
    std::vector<QueryMoments>& twin = t.naive.stage_queries(layer);
    check(to.size() == twin.size(), "moments of how many heads");
    const auto dim = static_cast<std::size_t>(shape_.head_dim);
    std::vector<float> queries(static_cast<std::size_t>(tokens) * dim);
    for (std::size_t head = 0; head < to.size(); ++head) {
      for (float& x : queries) x = random();
      for (QueryMoments* moments : {&to[head], &twin[head]}) {
        moments->add(queries.data(), dim, static_cast<std::size_t>(tokens));
        moments->expect({.turn = {{0.8, 0.6}}, .interleaved = true, .scale = 0.5});
      }
    }
  }

  // In place of attention: weights in 64ths, which sum up exactly in any order, for the rows that each token sees. The
  // tokens of a prompt share their sums, so the last stands for all of them.
  void observe(Twins& t, LayerId layer, int tokens, Phase phase) {
    const bool prompt = phase != Phase::kDecode;
    const auto heads = t.kv.segments(layer);  // as the model does: first the segments, then where to add
    const Observation to = t.kv.observe(layer, tokens, prompt);
    const Observe what = t.naive.observed(layer, tokens, phase);
    check((to.mass.empty() && to.queries.empty()) != what.any(), "who is observed");
    if (what.future > 0) return add_queries(t, layer, to.queries, tokens);
    if (!what.any()) return;
    check(to.apart != prompt && to.mass.size() == heads.size(), "how it is observed");
    t.naive.observe(layer, what);
    const auto columns = static_cast<std::size_t>(what.columns(shape_.query_group));
    for (std::size_t h = 0; h < heads.size(); ++h) {
      std::size_t rows = 0, first = 0;
      for (const Segment& s : heads[h]) rows += s.range().padded();
      for (const Segment& s : heads[h]) {
        for (std::uint32_t i = 0; i < s.rows(); ++i)
          for (int token = prompt ? tokens - 1 : 0; token < tokens && !is_dead(s, i); ++token)
            for (std::size_t c = 0; c < columns && s.pos[i] <= t.kv.length() + token; ++c) {
              const float weight = std::fabs(std::floor(random() * 16)) / 64;
              const std::size_t sums = (to.apart ? static_cast<std::size_t>(token) : 0) * columns + c;
              to.mass[h][sums * rows + first + s.first % kTileRows + i] += weight;
              t.naive.see({layer, static_cast<int>(h), s.pos[i], token, static_cast<int>(c), weight});
            }
        first += s.range().padded();
      }
      staged_bytes_ += (to.apart ? static_cast<std::size_t>(tokens) : 1) * columns * rows * sizeof(float);
    }
  }

  float random() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-29F;
  }

  KvShape shape_;
  std::shared_ptr<const KvSpec> spec_;
  BlockPool pool_;
  std::vector<Twins> twins_;
  std::size_t staged_bytes_ = 0;
  std::uint64_t state_ = 1;
};

}  // namespace lamina::testing
