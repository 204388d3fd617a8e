// SPDX-License-Identifier: Apache-2.0
#include "kv/sequence.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

Format raw_format(Format format) { return format == Format::kF32 ? Format::kF32 : Format::kF16; }

}  // namespace

KvSequence::KvSequence(std::shared_ptr<const KvSpec> spec, const KvShape& shape, BlockPool& pool)
    : spec_(std::move(spec)), shape_(shape), pool_(&pool) {
  const SlotFormats formats{.raw_k = raw_format(spec_->k), .raw_v = raw_format(spec_->v), .k = spec_->k, .v = spec_->v};
  for (int i = 0; i < spec_->layers.slots(); ++i) {
    const SlotId slot{i};
    const MiniCache* merge = spec_->layers.views(slot) > 1 ? &spec_->minicache : nullptr;
    slots_.emplace_back(shape, pool.memory().block_bytes, formats, spec_->layers.window(slot), merge);
  }
}

KvSequence::KvSequence(const KvSequence& other) = default;

KvSequence::KvSequence(KvSequence&& other) noexcept = default;

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  std::swap(spec_, other.spec_);
  std::swap(shape_, other.shape_);
  std::swap(pool_, other.pool_);
  std::swap(slots_, other.slots_);
  std::swap(length_, other.length_);
  std::swap(prompt_length_, other.prompt_length_);
  std::swap(evicted_, other.evicted_);
  return *this;
}

KvSequence::~KvSequence() {
  for (Slot& slot : slots_) slot.clear(*pool_);
  if (!slots_.empty()) pool_->trim();
}

KvSequence KvSequence::fork() const {
  KvSequence copy(*this);
  for (const Slot& slot : slots_) slot.share(*pool_);
  return copy;
}

void KvSequence::append(LayerId layer, Pos first, int tokens, const float* k, const float* v) {
  const Route& route = spec_->layers[layer];
  assert(route.writes.has_value() && first >= length_);
  slots_[static_cast<std::size_t>(index(*route.writes))].append(*pool_, route.view, first, tokens, k, v);
}

std::span<const std::span<const Segment>> KvSequence::segments(LayerId layer) {
  const Route& route = spec_->layers[layer];
  const bool renumbers = spec_->tokens && spec_->tokens->renumbers();
  return slots_[static_cast<std::size_t>(index(route.reads))].segments(route.view, renumbers);
}

void KvSequence::discard() {
  for (Slot& slot : slots_) slot.drop_from(*pool_, length_);
}

int KvSequence::step_limit() const {
  return spec_->grid > 0 ? spec_->grid - length_ % spec_->grid : std::numeric_limits<int>::max();
}

void KvSequence::truncate(Pos length) {
  const std::string reason = why_not_truncate(length);
  require(reason.empty(), "kv cache: cannot go back from {} to {} tokens: {}", length_, length, reason);
  for (Slot& slot : slots_) slot.drop_from(*pool_, length);
  length_ = length;
  prompt_length_ = std::min(prompt_length_, length);
  pool_->trim();
}

std::string KvSequence::why_not_truncate(Pos length) const {
  if (length < 0 || length > length_) return "there are no such tokens";
  if (length == length_) return {};
  if (evicted_) return fmt::format("\"{}\" has dropped rows that the shorter text still had", spec_->text());
  for (const Slot& slot : slots_) {
    const std::string reason = slot.why_not_truncate(length);
    if (!reason.empty()) return fmt::format("under \"{}\" {}", spec_->text(), reason);
  }
  return {};
}

KvBytes KvSequence::bytes() const {
  KvBytes bytes;
  for (const Slot& slot : slots_) bytes += slot.bytes(*pool_);
  return bytes;
}

double KvSequence::kept_fraction() const {
  if (length_ == 0 || slots_.empty()) return 1;
  double sum = 0;
  for (const Slot& slot : slots_) {
    const Pos full = slot.window() > 0 ? std::min(length_, slot.window() - 1) : length_;
    sum += full > 0 ? static_cast<double>(slot.rows()) / full : 1;
  }
  return sum / static_cast<double>(slots_.size());
}

MergeCount KvSequence::merged() const {
  MergeCount count;
  for (const Slot& slot : slots_) count += slot.merged();
  return count;
}

std::size_t most_bytes(const KvShape& shape, Pos length) {
  const std::size_t runs = static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(shape.kv_heads);
  const std::size_t rows = static_cast<std::size_t>(length) + 4 * 4096;
  return runs * rows * 4 * static_cast<std::size_t>(padded_dim(shape.head_dim)) * sizeof(float);
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
