// SPDX-License-Identifier: Apache-2.0
#include "text/merge_table.h"

#include <bit>

namespace lamina {

MergeTable::MergeTable(std::span<const MergeRule> rules) : slots_(std::bit_ceil(rules.size() * 3 / 2 + 2)) {
  for (std::size_t rank = 0; rank < rules.size(); ++rank) {
    const std::uint64_t pair = key(rules[rank].left, rules[rank].right);
    slots_[slot_of(pair)] = {pair, {static_cast<std::uint32_t>(rank), rules[rank].merged}};
  }
}

// The slot that holds `pair`, or the free one where it would go.
std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = (pair * 0x9E3779B97F4A7C15U >> 32) & mask;
  while (slots_[at].pair != pair && slots_[at].pair != kFree) at = (at + 1) & mask;
  return at;
}

}  // namespace lamina
