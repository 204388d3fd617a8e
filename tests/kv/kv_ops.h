// SPDX-License-Identifier: Apache-2.0
// Random operations on KvSequences, checked after each one against a naive model that keeps every row by itself. Shared
// by the test and the fuzz target: operations come from bytes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
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

struct NaiveRow {
  Pos pos = 0;
  bool exact = true;                     // as appended, not yet encoded
  std::vector<std::vector<float>> k, v;  // [head][channel], what a reader must see
};

// What KvSequence promises, row by row.
class NaiveSequence {
 public:
  NaiveSequence(std::shared_ptr<const KvSpec> spec, KvShape shape)
      : spec_(std::move(spec)), shape_(std::move(shape)), slots_(static_cast<std::size_t>(spec_->layers.slots())) {
    raw_k_ = spec_->k == Format::kF32 ? Format::kF32 : Format::kF16;
    raw_v_ = spec_->v == Format::kF32 ? Format::kF32 : Format::kF16;
  }

  void append(int slot, int tokens, const float* k, const float* v) {
    for (int t = 0; t < tokens; ++t) {
      NaiveRow row{.pos = length + t, .exact = true, .k = {}, .v = {}};
      for (int h = 0; h < shape_.kv_heads; ++h) {
        const auto offset = static_cast<std::ptrdiff_t>(t * shape_.kv_heads + h) * shape_.head_dim;
        row.k.push_back(through(RowKind::kKey, raw_k_, {k + offset, k + offset + shape_.head_dim}));
        row.v.push_back(through(RowKind::kValue, raw_v_, {v + offset, v + offset + shape_.head_dim}));
      }
      slots_[static_cast<std::size_t>(slot)].push_back(row);
    }
  }

  void commit(Phase phase, int appended, int accepted) {
    length += accepted;
    if (phase != Phase::kDecode) prompt = length;
    const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length % spec_->grid == 0);
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      auto& rows = slots_[s];
      std::erase_if(rows, [&](const NaiveRow& row) { return row.pos >= length; });
      const Pos window = spec_->layers.window(SlotId{static_cast<int>(s)});
      if (window > 0) std::erase_if(rows, [&](const NaiveRow& row) { return row.pos <= length - window; });
      if (lossy && spec_->tokens) evict(rows, phase, static_cast<int>(s));
      if (lossy) encode_old(rows);
    }
    (void)appended;
  }

  void truncate(Pos to) {
    length = to;
    prompt = std::min(prompt, to);
    for (auto& rows : slots_) std::erase_if(rows, [&](const NaiveRow& row) { return row.pos >= to; });
  }

  const std::vector<NaiveRow>& rows(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }

  Pos length = 0, prompt = 0;

 private:
  void encode(NaiveRow& row) const {
    row.exact = false;
    for (auto& x : row.k)
      if (raw_k_ != spec_->k) x = through(RowKind::kKey, spec_->k, x);
    for (auto& x : row.v)
      if (raw_v_ != spec_->v) x = through(RowKind::kValue, spec_->v, x);
  }

  void evict(std::vector<NaiveRow>& rows, Phase phase, int slot) {
    std::vector<Pos> pos;
    for (const auto& row : rows) pos.push_back(row.pos);
    const std::vector<HeadRows> heads(static_cast<std::size_t>(shape_.kv_heads), HeadRows{.pos = pos});
    const Step step{.phase = phase,
                    .length = length,
                    .prompt_length = prompt,
                    .slot = slot,
                    .slots = static_cast<int>(slots_.size())};
    const Keep keep = spec_->tokens->select(step, heads);
    if (keep.size() == rows.size()) return;
    for (auto& row : rows)
      if (row.exact && row.pos < spec_->tokens->pinned_rows()) encode(row);
    std::vector<NaiveRow> kept;
    for (const auto row : keep) kept.push_back(rows[row]);
    rows = kept;
  }

  void encode_old(std::vector<NaiveRow>& rows) {
    if (raw_k_ == spec_->k && raw_v_ == spec_->v) return;
    const auto exact = static_cast<std::size_t>(
        std::count_if(rows.begin(), rows.end(), [](const NaiveRow& row) { return row.exact; }));
    if (exact < 32) return;
    std::size_t n = (exact - 16) / 16 * 16;
    for (auto& row : rows)
      if (row.exact && n > 0) {
        encode(row);
        --n;
      }
  }

  std::shared_ptr<const KvSpec> spec_;
  KvShape shape_;
  Format raw_k_, raw_v_;
  std::vector<std::vector<NaiveRow>> slots_;
};

// Every layer's segments hold exactly the naive rows, in order, bit for bit, and the shift closes the gap.
inline void expect_same(KvSequence& kv, const NaiveSequence& naive) {
  check(kv.length() == naive.length, "length");
  const KvShape& shape = kv.shape();
  std::vector<float> x(static_cast<std::size_t>(shape.head_dim));
  for (int layer = 0; layer < shape.layers; ++layer) {
    const auto heads = kv.segments(LayerId{layer});
    const auto& rows = naive.rows(index(kv.spec().layers[LayerId{layer}].reads));
    check(heads.size() == static_cast<std::size_t>(shape.kv_heads), "heads");
    for (std::size_t h = 0; h < heads.size(); ++h) {
      std::size_t at = 0;
      Pos previous = -1;
      for (const Segment& segment : heads[h]) {
        for (std::uint32_t i = 0; i < segment.rows(); ++i, ++at) {
          check(at < rows.size() && segment.pos[i] == rows[at].pos, "positions");
          if (kv.spec().tokens && kv.spec().tokens->renumbers() && previous >= 0 && at > 0)
            check(segment.pos[i] - segment.shift == previous + 1 || segment.shift > 0 || i > 0 ||
                      previous == segment.pos[i] - 1,
                  "re-numbered positions");
          previous = segment.pos[i] + segment.shift;
          const RowPlanes k{kv.memory(),    RowKind::kKey,   segment.k_format,
                            shape.head_dim, segment.k_codes, segment.k_scales};
          read_row(k, segment.first + i, x.data());
          check(std::memcmp(x.data(), rows[at].k[h].data(), x.size() * 4) == 0, "key bytes");
          const RowPlanes v{kv.memory(),    RowKind::kValue, segment.v_format,
                            shape.head_dim, segment.v_codes, segment.v_scales};
          read_row(v, segment.first + i, x.data());
          check(std::memcmp(x.data(), rows[at].v[h].data(), x.size() * 4) == 0, "value bytes");
        }
      }
      check(at == rows.size(), "row count");
    }
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
      t.naive.append(index(*writes), tokens, k.data(), v.data());
    }
    t.kv.commit(phase, tokens, accepted);
    t.naive.commit(phase, tokens, accepted);
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
