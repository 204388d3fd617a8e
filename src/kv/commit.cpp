// SPDX-License-Identifier: Apache-2.0
// Commit: evict (tokens) -> merge (layers) -> encode (bits), once a step. The only code that destroys information.
// Rows that no later query can see, those outside a slot's sliding window, go at every commit: nothing is lost.
#include <algorithm>
#include <cassert>

#include "kv/sequence.h"

namespace lamina {

void KvSequence::commit(Phase phase, int appended, int accepted) {
  assert(0 <= accepted && accepted <= appended);
  length_ += accepted;
  if (accepted < appended)
    for (Slot& slot : slots_) slot.drop_from(*pool_, length_);
  if (phase != Phase::kDecode) prompt_length_ = length_;
  const bool lossy = phase != Phase::kPrompt || (spec_->grid > 0 && length_ % spec_->grid == 0);
  Step step{.phase = phase,
            .length = length_,
            .prompt_length = prompt_length_,
            .slot = 0,
            .slots = static_cast<int>(slots_.size())};
  for (Slot& slot : slots_) {
    if (slot.window() > 0) slot.drop_before(*pool_, length_ - slot.window() + 1);  // the next query does not see them
    if (lossy) {
      const bool evicted = spec_->tokens && evict(slot, *spec_->tokens, step);
      slot.merge(*pool_, phase);
      if (evicted) slot.pin(*pool_, spec_->tokens->pinned_rows());
      slot.encode(*pool_);
    }
    ++step.slot;
  }
  if (phase != Phase::kDecode) pool_->trim();
}

// Whether rows went.
bool KvSequence::evict(Slot& slot, const TokenPolicy& policy, const Step& step) {
  const std::vector<Pos> pos = slot.positions();
  const std::vector<HeadRows> heads(static_cast<std::size_t>(shape_.kv_heads), HeadRows{.pos = pos});
  const Keep keep = policy.select(step, heads);
  assert(std::is_sorted(keep.begin(), keep.end()));
  if (keep.size() == pos.size()) return false;
  evicted_ = true;
  std::vector<Pos> kept;
  kept.reserve(keep.size());
  for (const std::uint32_t row : keep) kept.push_back(pos[row]);
  slot.keep(*pool_, kept);
  return true;
}

}  // namespace lamina
