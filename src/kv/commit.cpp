// SPDX-License-Identifier: Apache-2.0
// Commit: evict (tokens) -> merge (layers) -> encode (bits), once a step. The only code that destroys information.
// Rows that no later query can see, those outside a layer's sliding window, go at every commit: nothing is lost.
#include <algorithm>
#include <array>
#include <cassert>

#include "kv/sequence.h"

namespace lamina {
namespace {

// Rows leave the tail in groups of a tile, once there are two tiles of them: 16 to 31 stay exact.
constexpr std::uint32_t rows_to_encode(std::uint32_t tail_rows) {
  return tail_rows < 2 * kTileRows ? 0 : (tail_rows - kTileRows) / kTileRows * kTileRows;
}

}  // namespace

void KvSequence::commit(Phase phase, int appended, int accepted) {
  assert(0 <= accepted && accepted <= appended);
  length_ += accepted;
  if (accepted < appended)
    for (Slot& slot : slots_) drop_from(slot, length_);
  if (phase != Phase::kDecode) prompt_length_ = length_;
  const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length_ % spec_->grid == 0);
  Step step{.phase = phase,
            .length = length_,
            .prompt_length = prompt_length_,
            .slot = 0,
            .slots = static_cast<int>(slots_.size())};
  for (Slot& slot : slots_) {
    drop_outside_window(slot);
    if (lossy && spec_->tokens) evict(slot, *spec_->tokens, step);
    if (lossy && encodes()) encode(slot);
    ++step.slot;
  }
  if (phase != Phase::kDecode) pool_->trim();
}

void KvSequence::drop_outside_window(Slot& slot) {
  if (slot.window == 0) return;
  const Pos first = length_ - slot.window + 1;  // the oldest position that the next query sees
  for (Run* run : {&slot.pinned, &slot.body, &slot.tail}) {
    const auto pos = run->positions();
    run->drop_front(*pool_, static_cast<std::uint32_t>(std::lower_bound(pos.begin(), pos.end(), first) - pos.begin()));
  }
}

void KvSequence::evict(Slot& slot, const TokenPolicy& policy, const Step& step) {
  const std::array<Run*, 3> runs{&slot.pinned, &slot.body, &slot.tail};
  std::vector<Pos> pos;
  for (const Run* run : runs) pos.insert(pos.end(), run->positions().begin(), run->positions().end());
  const std::vector<HeadRows> heads(static_cast<std::size_t>(shape_.kv_heads), HeadRows{.pos = pos});
  const Keep keep = policy.select(step, heads);
  assert(std::is_sorted(keep.begin(), keep.end()));
  if (keep.size() == pos.size()) return;
  evicted_ = true;
  pin_leading_rows(slot, policy.pinned_rows());
  std::uint32_t begin = 0;
  auto from = keep.begin();
  for (Run* run : runs) {
    const std::uint32_t end = begin + run->rows();
    const auto to = std::lower_bound(from, keep.end(), end);
    Keep rows(from, to);
    for (std::uint32_t& row : rows) row -= begin;
    run->keep(*pool_, rows);
    from = to;
    begin = end;
  }
}

// Once rows between the sinks and the rest go, the sinks become a run of their own: then the rest only ever loses rows
// at its front, and the gap is one number.
void KvSequence::pin_leading_rows(Slot& slot, int rows) {
  for (Run* run : {&slot.body, &slot.tail}) {
    const auto pos = run->positions();
    const auto n = static_cast<std::uint32_t>(std::lower_bound(pos.begin(), pos.end(), rows) - pos.begin());
    if (n == 0) continue;
    slot.pinned.append_from(*pool_, *run, n);
    run->drop_front(*pool_, n);
  }
}

void KvSequence::encode(Slot& slot) {
  const std::uint32_t n = rows_to_encode(slot.tail.rows());
  if (n == 0) return;
  slot.body.append_from(*pool_, slot.tail, n);
  slot.tail.drop_front(*pool_, n);
}

}  // namespace lamina
