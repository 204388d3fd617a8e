// SPDX-License-Identifier: Apache-2.0
#include "kv/sequence.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

Format raw_format(Format format) { return format == Format::kF32 ? Format::kF32 : Format::kF16; }

}  // namespace

KvSequence::KvSequence(std::shared_ptr<const KvSpec> spec, const KvShape& shape, BlockPool& pool)
    : spec_(std::move(spec)), shape_(shape), pool_(&pool), raw_k_(raw_format(spec_->k)), raw_v_(raw_format(spec_->v)) {
  const std::size_t block_bytes = pool.memory().block_bytes;
  for (int slot = 0; slot < spec_->layers.slots(); ++slot)
    slots_.push_back({.pinned = Run(shape, block_bytes, spec_->k, spec_->v),
                      .body = Run(shape, block_bytes, spec_->k, spec_->v),
                      .tail = Run(shape, block_bytes, raw_k_, raw_v_),
                      .window = spec_->layers.window(SlotId{slot}),
                      .segments = {},
                      .heads = {}});
}

KvSequence::KvSequence(const KvSequence& other) = default;

KvSequence::KvSequence(KvSequence&& other) noexcept = default;

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  std::swap(spec_, other.spec_);
  std::swap(shape_, other.shape_);
  std::swap(pool_, other.pool_);
  std::swap(raw_k_, other.raw_k_);
  std::swap(raw_v_, other.raw_v_);
  std::swap(slots_, other.slots_);
  std::swap(length_, other.length_);
  std::swap(prompt_length_, other.prompt_length_);
  std::swap(evicted_, other.evicted_);
  return *this;
}

KvSequence::~KvSequence() {
  for (Slot& slot : slots_)
    for (Run* run : {&slot.pinned, &slot.body, &slot.tail}) run->clear(*pool_);
  if (!slots_.empty()) pool_->trim();
}

KvSequence KvSequence::fork() const {
  KvSequence copy(*this);
  for (const Slot& slot : slots_)
    for (const Run* run : {&slot.pinned, &slot.body, &slot.tail}) run->share(*pool_);
  return copy;
}

void KvSequence::append(LayerId layer, Pos first, int tokens, const float* k, const float* v) {
  const auto writes = spec_->layers[layer].writes;
  assert(writes.has_value());
  Run& tail = slots_[static_cast<std::size_t>(index(*writes))].tail;
  assert(length_ <= first && first <= (tail.rows() ? std::max(length_, tail.positions().back() + 1) : length_));
  const auto held = tail.positions();
  tail.drop_back(*pool_, static_cast<std::uint32_t>(held.end() - std::lower_bound(held.begin(), held.end(), first)));
  std::vector<Pos> pos(static_cast<std::size_t>(tokens));
  std::iota(pos.begin(), pos.end(), first);
  tail.grow(*pool_, pos);
  tail.write_last(*pool_, static_cast<std::uint32_t>(tokens), k, v);
}

std::span<const std::span<const Segment>> KvSequence::segments(LayerId layer) {
  Slot& slot = slots_[static_cast<std::size_t>(index(spec_->layers[layer].reads))];
  const std::array<const Run*, 3> runs{&slot.pinned, &slot.body, &slot.tail};
  Pos gap = 0;
  if (spec_->tokens && spec_->tokens->renumbers() && slot.pinned.rows() > 0) {
    const Run& next = slot.body.rows() > 0 ? slot.body : slot.tail;
    if (next.rows() > 0) gap = next.positions().front() - slot.pinned.positions().back() - 1;
  }
  const auto count =
      static_cast<std::size_t>(std::count_if(runs.begin(), runs.end(), [](const Run* run) { return run->rows() > 0; }));
  slot.segments.clear();
  for (int head = 0; head < shape_.kv_heads; ++head)
    for (const Run* run : runs)
      if (run->rows() > 0) slot.segments.push_back(run->segment(head, run == &slot.pinned ? gap : 0));
  slot.heads.clear();
  for (std::size_t head = 0; head < static_cast<std::size_t>(shape_.kv_heads); ++head)
    slot.heads.push_back(std::span<const Segment>(slot.segments).subspan(head * count, count));
  return slot.heads;
}

void KvSequence::discard() {
  for (Slot& slot : slots_) drop_from(slot, length_);
}

int KvSequence::step_limit() const {
  return spec_->grid > 0 ? spec_->grid - length_ % spec_->grid : std::numeric_limits<int>::max();
}

void KvSequence::truncate(Pos length) {
  const std::string reason = why_not_truncate(length);
  require(reason.empty(), "kv cache: cannot go back from {} to {} tokens: {}", length_, length, reason);
  for (Slot& slot : slots_) drop_from(slot, length);
  length_ = length;
  prompt_length_ = std::min(prompt_length_, length);
  pool_->trim();
}

std::string KvSequence::why_not_truncate(Pos length) const {
  if (length < 0 || length > length_) return "there are no such tokens";
  if (length == length_) return {};
  if (evicted_) return fmt::format("\"{}\" has dropped rows that the shorter text still had", spec_->text());
  for (const Slot& slot : slots_) {
    const Run& encoded = slot.body.rows() > 0 ? slot.body : slot.pinned;
    if (encodes() && encoded.rows() > 0 && length < encoded.positions().back() + 1 + kTileRows)
      return fmt::format("\"{}\" has encoded rows that were still exact at that length", spec_->text());
    const Run& first = encoded.rows() > 0 ? (slot.pinned.rows() > 0 ? slot.pinned : slot.body) : slot.tail;
    if (slot.window > 0 && first.rows() > 0 && first.positions().front() > std::max(0, length - slot.window + 1))
      return fmt::format("sliding-window layers ({} tokens) have freed rows that the shorter text still had",
                         slot.window);
  }
  return {};
}

void KvSequence::drop_from(Slot& slot, Pos length) {
  for (Run* run : {&slot.pinned, &slot.body, &slot.tail}) {
    const auto pos = run->positions();
    run->drop_back(*pool_, static_cast<std::uint32_t>(pos.end() - std::lower_bound(pos.begin(), pos.end(), length)));
  }
}

KvBytes KvSequence::bytes() const {
  KvBytes bytes;
  for (const Slot& slot : slots_)
    for (const Run* run : {&slot.pinned, &slot.body, &slot.tail}) bytes += run->bytes(*pool_);
  return bytes;
}

double KvSequence::kept_fraction() const {
  if (length_ == 0 || slots_.empty()) return 1;
  double sum = 0;
  for (const Slot& slot : slots_) {
    const Pos full = slot.window > 0 ? std::min(length_, slot.window - 1) : length_;
    const double rows = slot.pinned.rows() + slot.body.rows() + slot.tail.rows();
    sum += full > 0 ? rows / full : 1;
  }
  return sum / static_cast<double>(slots_.size());
}

KvPlan plan_kv(std::shared_ptr<const KvSpec> spec, const KvShape& shape, int prompt, int decoded, int batch) {
  BlockPool pool = BlockPool::counting(shape, spec->widest());
  KvSequence sequence(spec, shape, pool);
  KvPlan plan{};
  const auto step = [&](Phase phase, int tokens) {
    for (const auto& writers : spec->layers.writers)
      for (const LayerId writer : writers) sequence.append(writer, sequence.length(), tokens, nullptr, nullptr);
    plan.peak_bytes = std::max(plan.peak_bytes, sequence.bytes().total());
    sequence.commit(phase, tokens);
    plan.peak_bytes = std::max(plan.peak_bytes, sequence.bytes().total());
  };
  while (sequence.length() < prompt) {
    const int tokens = std::min({batch, sequence.step_limit(), prompt - sequence.length()});
    step(sequence.length() + tokens == prompt ? Phase::kPromptEnd : Phase::kPrompt, tokens);
  }
  for (int i = 0; i < decoded; ++i) step(Phase::kDecode, 1);
  plan.steady = sequence.bytes();
  return plan;
}

}  // namespace lamina
