// SPDX-License-Identifier: Apache-2.0
#include "kv/sequence.h"

#include <algorithm>
#include <cassert>
#include <memory>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "kv/bits/hadamard.h"

namespace lamina {
namespace {

constexpr int kInstructionTokens = 32;  // of a probe, about: models differ

std::vector<float> rotated(const float* x, std::size_t size, int head_dim) {
  std::vector<float> result(x, x + size);
  for (std::size_t at = 0; at < size; at += static_cast<std::size_t>(head_dim)) hadamard(&result[at], head_dim);
  return result;
}

std::vector<Pos> positions(Pos first, int tokens) {
  std::vector<Pos> pos(static_cast<std::size_t>(tokens));
  std::iota(pos.begin(), pos.end(), first);
  return pos;
}

// A step of a sequence that only counts: what the model's layers would append and observe.
void feed_rows(KvSequence& sequence, Phase phase, int tokens) {
  std::vector<Pos> pos = positions(sequence.next(), tokens);
  for (int i = 0; i < sequence.shape().layers; ++i) {
    const LayerId layer{i};
    if (sequence.spec().layers[layer].writes) sequence.append(layer, pos, nullptr, nullptr);
    sequence.observe(layer, tokens, phase != Phase::kDecode);
    if (phase == Phase::kDecode || !sequence.spec().prunes()) continue;
    const Keep keep = sequence.survivors(layer, tokens, pos);  // of equal sums: how many, not which
    std::transform(keep.begin(), keep.end(), pos.begin(), [&](std::uint32_t row) { return pos[row]; });
    pos.resize(keep.size());
  }
}

// A probe of so many tokens; `after_step` is called while the rows of a step are held.
template <class Fn>
void feed_probe(KvSequence& sequence, int tokens, int batch, Fn after_step) {
  sequence.begin_probe();
  for (int left = tokens; left > 0; left -= batch) {
    feed_rows(sequence, Phase::kPrompt, std::min(batch, left));
    after_step();
    sequence.keep_probe(std::min(batch, left));
  }
  sequence.discard();
}

}  // namespace

KvSequence::KvSequence(std::shared_ptr<const KvSpec> spec, const KvShape& shape, BlockPool& pool)
    : spec_(std::move(spec)), shape_(shape), pool_(&pool) {
  const LayerMap& layers = spec_->layers;
  for (int i = 0; i < layers.slots(); ++i) {
    const SlotId slot{i};
    const auto& [tokens, k, v, kivi] = (*spec_)[slot];
    const Format raw_k = raw_format(k), raw_v = raw_format(v);
    const SlotFormats formats{.raw_k = raw_k, .raw_v = raw_v, .k = k, .v = v, .kivi = kivi};
    const SlotFormats unfolded{.raw_k = raw_k, .raw_v = raw_v, .k = raw_k, .v = raw_v};
    const MiniCache* merge = layers.views(slot) > 1 ? &spec_->minicache : nullptr;
    const bool one_head = spec_->only && layers[spec_->only->layer].writes == slot;
    assert(!one_head || merge == nullptr);
    KvShape part = shape;
    if (one_head || (tokens && tokens->by_head() && merge == nullptr)) part.kv_heads = 1;
    Parts parts{.policy = tokens.get(), .slots = {}, .readers = {}};
    for (int head = 0; head < shape.kv_heads; head += part.kv_heads)
      parts.slots.emplace_back(part, pool.memory().block_bytes,
                               one_head && head != spec_->only->head ? unfolded : formats, layers.window(slot), merge);
    if (one_head) parts.only_head = spec_->only->head;
    for (int layer = 0; tokens && layer < shape.layers; ++layer) {
      const Route& route = layers[LayerId{layer}];
      if (route.reads == slot && (route.writes == slot || tokens->readers() != Readers::kOwner))
        parts.readers.push_back(LayerId{layer});
    }
    wants_classes_ = wants_classes_ || (tokens && tokens->reads_classes());
    parts_.push_back(std::move(parts));
  }
}

KvSequence::KvSequence(const KvSequence& other) = default;

KvSequence::KvSequence(KvSequence&& other) noexcept = default;

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  if (this != &other) {
    std::destroy_at(this);
    std::construct_at(this, std::move(other));
  }
  return *this;
}

KvSequence::~KvSequence() {
  each_slot([&](Slot& slot) { slot.clear(*pool_); });
  if (!parts_.empty()) pool_->trim();
}

KvSequence KvSequence::fork() const {
  assert(!probed_);
  KvSequence copy(*this);
  each_slot([&](const Slot& slot) { slot.share(*pool_); });
  return copy;
}

void KvSequence::append(LayerId layer, Pos first, int tokens, const float* k, const float* v) {
  append(layer, positions(first, tokens), k, v);
}

void KvSequence::append(LayerId layer, std::span<const Pos> pos, const float* k, const float* v) {
  const Route& route = spec_->layers[layer];
  assert(route.writes.has_value() && pos.front() >= length_ && std::ranges::is_sorted(pos));
  std::vector<Slot>& slots = parts_[static_cast<std::size_t>(index(*route.writes))].slots;
  const auto width = static_cast<std::size_t>(shape_.kv_heads) * static_cast<std::size_t>(shape_.head_dim);
  std::vector<float> rotated_k, rotated_v;
  if (spec_->rotate && k != nullptr) {
    rotated_k = rotated(k, pos.size() * width, shape_.head_dim);
    rotated_v = rotated(v, pos.size() * width, shape_.head_dim);
    k = rotated_k.data();
    v = rotated_v.data();
  }
  std::size_t column = 0;
  for (Slot& slot : slots) {
    slot.append(*pool_, route.view, pos, k ? k + column : nullptr, v ? v + column : nullptr, width);
    column += static_cast<std::size_t>(slot.heads()) * static_cast<std::size_t>(shape_.head_dim);
  }
}

std::span<const std::span<const Segment>> KvSequence::segments(LayerId layer) {
  const Route& route = spec_->layers[layer];
  const std::optional<OneHead>& only = spec_->only;
  if (!only || only->layer != layer || route.writes == route.reads) return segments(route.reads, route.view);
  assert(route.writes.has_value());
  const auto own = segments(*route.writes, 0), read = segments(route.reads, route.view);
  std::vector<std::span<const Segment>>& heads = parts_[static_cast<std::size_t>(index(*route.writes))].heads;
  heads.assign(own.begin(), own.end());
  const auto head = static_cast<std::size_t>(only->head);
  heads[head] = read[head];
  return heads;
}

std::span<const std::span<const Segment>> KvSequence::segments(SlotId slot, int view) {
  Parts& parts = parts_[static_cast<std::size_t>(index(slot))];
  const bool renumbers = parts.policy && parts.policy->renumbers();
  if (parts.slots.size() == 1) return parts.slots.front().segments(view, renumbers);
  parts.heads.clear();
  for (Slot& part : parts.slots) parts.heads.push_back(part.segments(view, renumbers).front());
  return parts.heads;
}

void KvSequence::note_classes(Pos first, std::span<const TokenClass> classes) {
  classes_.resize(static_cast<std::size_t>(first));
  classes_.insert(classes_.end(), classes.begin(), classes.end());
}

Ahead KvSequence::ahead(Phase phase, int tokens) const {
  const Pos end = probed_                                        ? length_
                  : prompt_end_ >= length_ + std::max(tokens, 1) ? prompt_end_
                  : tokens > 0                                   ? length_ + tokens
                                                                 : Ahead::kUnknown;
  return {.phase = phase,
          .length = length_,
          .prompt_end = phase == Phase::kDecode ? prompt_length_ : end,
          .grid = spec_->grid};
}

void KvSequence::expect_prompt(Pos tokens) {
  prompt_end_ = length_ + tokens;
  for (Parts& parts : parts_) forget(parts, Phase::kPrompt);
}

Observation KvSequence::observe(LayerId layer, int tokens, bool prompt) {
  Parts& parts = parts_[static_cast<std::size_t>(index(spec_->layers[layer].reads))];
  if (!parts.policy || (parts.policy->probes() > 0) != probed_.has_value()) return {};
  const Observe what = parts.policy->observes(ahead(prompt ? Phase::kPrompt : Phase::kDecode, tokens));
  const auto reader = std::ranges::find(parts.readers, layer);
  if (what.first_query >= next() + tokens || reader == parts.readers.end()) return {};
  if (what.future > 0) {
    const int heads = shape_.kv_heads * shape_.query_group;
    if (parts.queries.empty()) parts.queries.assign(static_cast<std::size_t>(heads), QueryMoments(shape_.head_dim));
    parts.staged_queries = parts.queries;
    return {.what = what, .mass = {}, .queries = parts.staged_queries};
  }
  const int readers = static_cast<int>(parts.readers.size());
  parts.mass.clear();
  for (Slot& slot : parts.slots) {
    const auto mass = slot.stage(static_cast<int>(reader - parts.readers.begin()), readers,
                                 what.columns(shape_.query_group), tokens, !prompt);
    parts.mass.insert(parts.mass.end(), mass.begin(), mass.end());
  }
  return {.what = what, .mass = parts.mass, .apart = !prompt};
}

Keep KvSequence::survivors(LayerId layer, int tokens, std::span<const Pos> pos) {
  const TokenPolicy* const policy = parts_[static_cast<std::size_t>(index(spec_->layers[layer].reads))].policy;
  const bool prunes = policy != nullptr && policy->prunes();
  assert(!prunes || prompt_end_ <= length_ + tokens);
  const auto heads = segments(layer);
  const Observation given = prunes ? observe(layer, tokens, true) : Observation{};
  if (given.mass.empty()) return every_row({.pos = pos});
  std::vector<float> mass(pos.size() * heads.size());  // [row][kv_head]
  for (std::size_t h = 0; h < heads.size(); ++h) {
    std::size_t row = 0, before = 0;
    for (const Segment& s : heads[h]) {
      for (std::uint32_t i = 0; i < s.rows(); ++i)  // rows of this step are the newest, and none of them is missing
        if (s.pos[i] >= pos.front()) mass[row++ * heads.size() + h] = given.mass[h][before + s.first % kTileRows + i];
      before += s.range().padded();
    }
    assert(row == pos.size());
  }
  return policy->prune(index(layer), shape_.layers, length_, length_ + tokens,
                       {.pos = pos, .mass = mass, .columns = static_cast<int>(heads.size())});
}

void KvSequence::keep_probe(int tokens) {
  assert(probed_.has_value());
  each_slot([&](Slot& slot) { slot.apply_staged(tokens); });
  *probed_ += tokens;
}

void KvSequence::discard() {
  probed_.reset();
  each_slot([&](Slot& slot) {
    slot.unstage();
    slot.drop_from(*pool_, length_);
  });
  for (Parts& parts : parts_) parts.staged_queries.clear();
}

int KvSequence::prompt_step(Pos left, int batch) const {
  if (spec_->prunes()) return left;
  const int most = std::min(left, batch);
  return spec_->grid > 0 ? std::min(most, spec_->grid - length_ % spec_->grid) : most;
}

void KvSequence::truncate(Pos length) {
  const std::string reason = why_not_truncate(length);
  require(reason.empty(), "kv cache: cannot go back from {} to {} tokens: {}", length_, length, reason);
  each_slot([&](Slot& slot) { slot.drop_from(*pool_, length); });
  length_ = length;
  prompt_start_ = std::min(prompt_start_, length);
  prompt_length_ = std::min(prompt_length_, length);
  pool_->trim();
}

std::string KvSequence::why_not_truncate(Pos length) const {
  if (length < 0 || length > length_) return "there are no such tokens";
  if (length == length_) return {};
  if (spec_->observes())
    return fmt::format("under \"{}\" the attention of the longer text has been counted", spec_->text());
  if (evicted_) return fmt::format("\"{}\" has dropped rows that the shorter text still had", spec_->text());
  std::string reason;
  each_slot([&](const Slot& slot) {
    if (reason.empty()) reason = slot.why_not_truncate(length);
  });
  return reason.empty() ? reason : fmt::format("under \"{}\" {}", spec_->text(), reason);
}

std::vector<std::size_t> KvSequence::live_rows(SlotId slot) const {
  std::vector<std::size_t> rows;
  for (const Slot& part : parts_.at(static_cast<std::size_t>(index(slot))).slots) rows.push_back(part.rows());
  return rows;
}

KvBytes KvSequence::bytes() const {
  KvBytes bytes;
  each_slot([&](const Slot& slot) { bytes += slot.bytes(*pool_); });
  for (const Parts& parts : parts_)
    for (const auto* queries : {&parts.queries, &parts.staged_queries})
      for (const QueryMoments& head : *queries) bytes.mass += head.bytes();
  bytes.positions += classes_.capacity() * sizeof(TokenClass);
  return bytes;
}

double KvSequence::kept_fraction() const {
  if (length_ == 0) return 1;
  double sum = 0;
  int heads = 0;
  each_slot([&](const Slot& slot) {
    const Pos full = slot.window() > 0 ? std::min(length_, slot.window() - 1) : length_;
    sum += slot.heads() * (full > 0 ? static_cast<double>(slot.rows()) / full : 1);
    heads += slot.heads();
  });
  return sum / heads;
}

MergeCount KvSequence::merged() const {
  MergeCount count;
  each_slot([&](const Slot& slot) { count += slot.merged(); });
  return count;
}

MergeCount KvSequence::merged(SlotId slot) const {
  MergeCount count;
  for (const Slot& part : parts_.at(static_cast<std::size_t>(index(slot))).slots) count += part.merged();
  return count;
}

std::size_t most_bytes(const KvShape& shape, Pos length) {
  const std::size_t runs = static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(shape.kv_heads);
  const std::size_t rows = static_cast<std::size_t>(length) + 4 * 4096;
  return runs * rows * 4 * static_cast<std::size_t>(padded_dim(shape.head_dim)) * sizeof(float);
}

KvPlan plan_kv(const std::shared_ptr<const KvSpec>& spec, const KvShape& shape, int prompt, int decoded, int batch) {
  BlockPool pool = BlockPool::counting(shape, spec->widest());
  KvSequence sequence(spec, shape, pool);
  std::size_t peak = 0;
  const auto note_peak = [&] { peak = std::max(peak, sequence.bytes().total()); };
  const auto step = [&](Phase phase, int tokens) {
    feed_rows(sequence, phase, tokens);
    note_peak();
    sequence.commit(phase, tokens);
    note_peak();
  };
  sequence.expect_prompt(prompt);
  while (sequence.length() < prompt) {
    const int tokens = sequence.prompt_step(prompt - sequence.length(), batch);
    const bool ends = sequence.length() + tokens == prompt && spec->probes() == 0;
    step(ends ? Phase::kPromptEnd : Phase::kPrompt, tokens);
  }
  if (spec->probes() > 0) {
    feed_probe(sequence, std::min(prompt, spec->probes()) + kInstructionTokens, batch, note_peak);
    sequence.commit(Phase::kPromptEnd, 0);
  }
  for (int i = 0; i < decoded; ++i) step(Phase::kDecode, 1);
  return {.steady = sequence.bytes(), .peak_bytes = peak};
}

KvBytes dense_bytes(const KvShape& shape, Pos length) {
  constexpr int kBatch = 512;  // of a prompt's steps: what is held after them does not depend on it
  const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", shape, UpwardMaps::kAny));
  return plan_kv(full, shape, length, 0, kBatch).steady;
}

}  // namespace lamina
