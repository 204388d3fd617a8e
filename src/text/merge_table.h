// SPDX-License-Identifier: Apache-2.0
// The merges of a BPE model, looked up by the two tokens that merge.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "text/merge.h"
#include "text/vocabulary.h"

namespace lamina {

struct MergeRule {
  Token left, right, merged;
};

class MergeTable {
 public:
  // By rank: what comes first merges first. Of two rules for the same pair the later one counts, as in Hugging Face's
  // tokenizers.
  explicit MergeTable(std::span<const MergeRule> rules);

  Merge find(Token left, Token right) const { return slots_[slot_of(key(left, right))].merge; }

 private:
  struct Slot {
    std::uint64_t pair = kFree;  // left << 32 | right
    Merge merge;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  static std::uint64_t key(Token left, Token right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing, a power of two, at most two thirds full
};

}  // namespace lamina
