// SPDX-License-Identifier: Apache-2.0
// Commit: evict (tokens) -> merge (layers) -> encode (bits), once a step. The only code that destroys information.
// Rows that no later query can see, those outside a slot's sliding window, go at every commit: nothing is lost.
#include <malloc.h>

#include <algorithm>
#include <cassert>

#include "kv/bits/hadamard.h"
#include "kv/sequence.h"

namespace lamina {
namespace {

// Positions of the rows that are not kept. In decode that is one of thousands: it is searched for.
std::vector<Pos> dropped(std::span<const Pos> pos, const Keep& keep) {
  std::vector<Pos> gone;
  gone.reserve(pos.size() - keep.size());
  for (std::size_t kept = 0; gone.size() < pos.size() - keep.size();) {
    // up to the next dropped row a kept one stands as many places ahead of its row as rows have gone
    const auto from = keep.begin() + static_cast<std::ptrdiff_t>(kept);
    const auto next = std::partition_point(from, keep.end(), [&](const std::uint32_t& row) {
      return row == static_cast<std::size_t>(&row - keep.data()) + gone.size();
    });
    kept = static_cast<std::size_t>(next - keep.begin());
    gone.push_back(pos[kept + gone.size()]);
  }
  return gone;
}

}  // namespace

template <class Fn>
void KvSequence::each_part(ThreadPool* threads, Fn fn) {
  const int parts = static_cast<int>(parts_.size());
  const auto task = [&](int part, int /*thread*/) { fn(parts_[static_cast<std::size_t>(part)], part); };
  if (threads != nullptr) return threads->parallel_for(parts, task);
  for (int part = 0; part < parts; ++part) task(part, 0);
}

void KvSequence::take(Phase phase, int appended, int accepted, ThreadPool* threads) {
  assert(0 <= accepted && accepted <= appended);
  if (phase != Phase::kDecode && !in_prompt_) prompt_start_ = length_;
  in_prompt_ = phase == Phase::kPrompt;
  length_ += accepted;
  each_part(threads, [&](Parts& parts, int) {
    for (Slot& slot : parts.slots) slot.apply_staged(accepted);
  });
  each_slot([&](Slot& slot) {
    if (accepted < appended) slot.drop_from(*pool_, length_);
    if (slot.window() > 0) slot.drop_before(*pool_, length_ - slot.window() + 1);  // the next query does not see them
  });
  for (Parts& parts : parts_) {
    if (parts.staged_queries.empty()) continue;
    std::swap(parts.queries, parts.staged_queries);
    parts.staged_queries.clear();
  }
  if (phase != Phase::kDecode) prompt_length_ = length_;
  if (classes_.size() > static_cast<std::size_t>(length_)) classes_.resize(static_cast<std::size_t>(length_));
}

void KvSequence::commit(Phase phase, int appended, int accepted, ThreadPool* threads) {
  const std::size_t held = pool_->held_bytes();
  if (std::ranges::none_of(parts_, [](const Parts& parts) { return parts.policy != nullptr; })) threads = nullptr;
  take(phase, appended, accepted, threads);
  const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length_ % spec_->grid == 0);
  if (lossy) {
    const Step step{.phase = phase,
                    .length = length_,
                    .prompt_length = prompt_length_,
                    .appended = accepted,
                    .slots = static_cast<int>(parts_.size())};
    each_part(threads, [&](Parts& parts, int slot) { choose(parts, SlotId{slot}, step); });
  }
  for (Parts& parts : parts_) {
    const bool evicted = evict(parts);
    if (phase == Phase::kPromptEnd) parts.queries = {};
    for (Slot& slot : parts.slots) {
      if (!lossy) continue;
      slot.merge(*pool_, phase);
      if (evicted || (parts.policy && slot.pins_first())) slot.pin(*pool_, parts.policy->pinned_rows());
      encoded_bytes_ += slot.encode(*pool_, evicted && !parts.policy->oldest_first());
    }
  }
  if (phase != Phase::kPromptEnd) return;
  pool_->trim();
  // What was measured lay on the heap, and so did the lists of blocks that went.
  if (spec_->observes() || pool_->held_bytes() < held) ::malloc_trim(0);
}

void commit_all(std::span<KvSequence* const> sequences, Phase phase, int tokens, ThreadPool& threads) {
  if (sequences.size() == 1) return sequences.front()->commit(phase, tokens, &threads);  // its slots beside each other
  threads.parallel_for(static_cast<int>(sequences.size()),
                       [&](int i, int /*thread*/) { sequences[static_cast<std::size_t>(i)]->commit(phase, tokens); });
}

// What is the same of all rows.
HeadRows KvSequence::head_rows(const Parts& parts, Slot& slot, Phase phase) const {
  const int readers = std::max(1, static_cast<int>(parts.readers.size()));  // none: upward maps, never observed
  return {.pos = {},
          .readers = readers,
          .columns = slot.mass_columns() / readers,
          .combined = parts.policy->readers(),
          .kinds = parts.policy->observes(ahead(phase, 0)).kinds(),
          .classes = classes_,
          .tag = &slot.tag()};
}

KvSequence::Sets KvSequence::sets(SlotId slot, Phase phase) {
  Parts& parts = parts_.at(static_cast<std::size_t>(index(slot)));
  const TokenPolicy& policy = *parts.policy;
  Sets sets;
  const int head_dim = shape_.head_dim;
  const bool reads_keys = policy.reads_keys(phase), reads_rows = policy.reads_rows(phase);
  for (const Slot& part : parts.slots) {
    sets.lists.push_back(part.list());
    sets.key_norms.push_back(reads_keys ? part.norms(*pool_, RowKind::kKey) : std::vector<float>());
    sets.value_norms.push_back(reads_rows ? part.norms(*pool_, RowKind::kValue) : std::vector<float>());
    sets.keys.push_back(reads_rows ? part.keys(*pool_) : std::vector<float>());
    for (std::size_t at = 0; spec_->rotate && at < sets.keys.back().size(); at += static_cast<std::size_t>(head_dim))
      hadamard(&sets.keys.back()[at], head_dim);
  }
  const std::size_t group = parts.queries.size() / parts.slots.size();
  for (std::size_t i = 0; i < parts.slots.size(); ++i) {
    HeadRows& rows = sets.rows.emplace_back(head_rows(parts, parts.slots[i], phase));
    rows.pos = sets.lists[i].pos;
    rows.mass = sets.lists[i].mass;
    rows.key_norms = sets.key_norms[i];
    rows.keys = sets.keys[i];
    rows.value_norms = sets.value_norms[i];
    rows.queries = std::span(parts.queries).subspan(i * group, group);
  }
  return sets;
}

// select() without a look at every row, where that can be; false: nothing is said.
bool KvSequence::fade(Parts& parts, const Step& step) {
  for (Slot& slot : parts.slots) {
    const std::optional<Fade> fade = parts.policy->fades(step, slot.tag());
    std::optional<std::vector<Pos>> gone = fade ? slot.fade(head_rows(parts, slot, step.phase), *fade) : std::nullopt;
    if (!gone) {
      parts.gone.clear();
      return false;
    }
    parts.gone.push_back(std::move(*gone));
  }
  return true;
}

// Says which rows go, and has nothing else changed: it may run beside those of other slots.
void KvSequence::choose(Parts& parts, SlotId slot, Step step) {
  if (!parts.policy) return;
  step.slot = index(slot);
  step.prompt_start = parts.policy->by_prompt() ? prompt_start_ : 0;
  step.window = parts.slots.front().window();
  if (!parts.policy->selects(step)) return;
  if (step.phase != Phase::kDecode || parts.only_head || !fade(parts, step)) select(parts, slot, step);
  for (std::size_t head = 0; parts.only_head && head < parts.gone.size(); ++head)
    if (head != static_cast<std::size_t>(*parts.only_head)) parts.gone[head].clear();
  forget(parts, step.phase == Phase::kPrompt ? Phase::kPrompt : Phase::kDecode);
}

void KvSequence::select(Parts& parts, SlotId slot, const Step& step) {
  for (Slot& part : parts.slots) part.fading().reset();
  const Sets all = this->sets(slot, step.phase);
  std::vector<HeadRows> sets = all.rows;
  for (HeadRows& rows : sets) rows = rows.from(step.prompt_start);
  std::vector<Keep> keep(sets.size());
  parts.policy->select(step, sets, keep);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    assert(std::is_sorted(keep[i].begin(), keep[i].end()));
    parts.gone.push_back(dropped(sets[i].pos, keep[i]));
  }
}

// Whether rows went.
bool KvSequence::evict(Parts& parts) {
  bool evicted = false;
  for (std::size_t i = 0; i < parts.gone.size(); ++i) {
    if (parts.gone[i].empty()) continue;
    evicted = evicted_ = true;
    parts.slots[i].drop(*pool_, parts.gone[i]);
  }
  parts.gone.clear();
  return evicted;
}

// What was measured for a choice that is made is forgotten, but for sums that the next one goes on adding to.
void KvSequence::forget(Parts& parts, Phase next) {
  if (!parts.policy || parts.slots.front().mass_columns() == 0) return;
  const Observe measured = parts.policy->observes(ahead(Phase::kPrompt, 0)),
                coming = parts.policy->observes(ahead(next, 0));
  // in decode, sums of the last queries before a choice start anew; those of all queries go on
  const bool goes_on = coming.first_query < length_ && (next != Phase::kDecode || coming.first_query == 0);
  const int columns = goes_on ? coming.columns(shape_.query_group) : 0;
  const int readers = static_cast<int>(parts.readers.size());
  for (Slot& slot : parts.slots)
    if (slot.mass_columns() > readers * slot.heads() * columns) slot.reduce_mass(readers, measured.kinds(), columns);
}

}  // namespace lamina
