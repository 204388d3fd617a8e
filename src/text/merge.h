// SPDX-License-Identifier: Apache-2.0
// The merge loop that byte-level BPE and SentencePiece's BPE share: of all neighbours that may merge, the pair with
// the smallest rank goes first, of equal ranks the leftmost. O(n log n): a heap of pairs over a linked list of symbols.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace lamina {

constexpr std::uint32_t kNoMerge = 0xFFFFFFFF;

struct Merge {
  std::uint32_t rank = kNoMerge;
  std::int32_t id = -1;  // of the merged symbol
};

struct Symbol {
  std::uint32_t begin = 0, end = 0;   // bytes of the text; begin == end: merged into its left neighbour
  std::int32_t id = -1;               // the merge table's name for it, if it needs one
  std::int32_t prev = -1, next = -1;  // neighbours, -1 at the ends
  Merge with_next;
};

// Kept between words so that its memory is.
struct MergeBuffers {
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> heap;  // rank << 32 | index of the left symbol

  void add(std::uint32_t begin, std::uint32_t end, std::int32_t id) {
    const auto at = static_cast<std::int32_t>(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({begin, end, id, at - 1, -1, {}});
  }
};

// Merges buffers.symbols until no pair may merge. `lookup(left, right)` gives the Merge of two neighbours.
template <class Lookup>
void merge_symbols(MergeBuffers& buffers, const Lookup& lookup) {
  std::vector<Symbol>& symbols = buffers.symbols;
  std::vector<std::uint64_t>& heap = buffers.heap;
  constexpr auto kLater = std::greater<>{};  // smallest on top
  const auto pair_up = [&](std::int32_t at) {
    Symbol& left = symbols[at];
    left.with_next = left.next < 0 ? Merge{} : lookup(left, symbols[left.next]);
    if (left.with_next.rank == kNoMerge) return false;
    heap.push_back(static_cast<std::uint64_t>(left.with_next.rank) << 32 | static_cast<std::uint32_t>(at));
    return true;
  };
  const auto push = [&](std::int32_t at) {
    if (at >= 0 && pair_up(at)) std::push_heap(heap.begin(), heap.end(), kLater);
  };

  heap.clear();
  for (std::size_t at = 0; at < symbols.size(); ++at) pair_up(static_cast<std::int32_t>(at));
  std::make_heap(heap.begin(), heap.end(), kLater);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kLater);
    const std::uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::int32_t>(top & 0xFFFFFFFF);
    Symbol& left = symbols[at];
    if (left.with_next.rank != top >> 32) continue;  // from before one of the two was merged
    Symbol& right = symbols[left.next];
    left.end = right.end;
    left.id = left.with_next.id;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].prev = at;
    right.end = right.begin;
    right.with_next = {};
    push(left.prev);
    push(at);
  }
}

}  // namespace lamina
