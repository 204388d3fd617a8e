// SPDX-License-Identifier: Apache-2.0
// BlockPool: the bytes of the KV cache. One pool of equal-size blocks serves every format, so requests with different
// specs share one engine and nothing fragments: what one sequence frees any other can use. Block ids are small
// integers resolved per device (kv/segment.h), counted by reference so that forks share rows.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kv/segment.h"
#include "kv/types.h"

namespace lamina {

// Threads may use it beside each other, for sequences of their own.
class BlockPool {
 public:
  // Reserves address space for `capacity_bytes`; memory is taken when blocks are first written. A block holds one tile
  // of the widest format that the pool's sequences use: with f16 that is 16 rows of f16, 32 of int8 or 64 of int4 codes
  // of one head's K or V. (Twice as large blocks made a k8v4 cache of 140 tokens larger than the dense one.)
  BlockPool(const KvShape& shape, std::size_t capacity_bytes, Format widest = Format::kF32);
  // A pool that only counts: `plan` runs the real code against it, so that its figures are those of the real thing.
  static BlockPool counting(const KvShape& shape, Format widest = Format::kF32);
  ~BlockPool();
  BlockPool(BlockPool&& other) noexcept;
  BlockPool& operator=(BlockPool&&) = delete;
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // The lowest free one, so that what is held lies together; one reference. Error when the capacity is used up.
  BlockId acquire();
  void share(BlockId block) { references(block).fetch_add(1, std::memory_order_relaxed); }
  void release(BlockId block);
  bool shared(BlockId block) { return references(block).load(std::memory_order_acquire) > 1; }
  // Gives the memory of free blocks back to the system, but for those beside many held ones: where three quarters of a
  // huge page or more are held, it is made one.
  void trim();

  const BlockMemory& memory() const { return memory_; }
  bool counts_only() const { return memory_.base == nullptr; }
  std::size_t held_bytes() const { return held_.load(std::memory_order_relaxed) * memory_.block_bytes; }
  std::size_t capacity_bytes() const { return capacity_ * memory_.block_bytes; }

 private:
  // The blocks that begin in one huge page.
  struct Region {
    std::uint32_t free = 0;
    BlockId lowest = 0;                                           // no block below it is free
    enum : std::uint8_t { kNew, kTrimmed, kHuge } memory = kNew;  // kTrimmed: its free blocks have none
  };
  BlockPool() = default;
  std::atomic_ref<std::uint32_t> references(BlockId block) { return std::atomic_ref(references_[block]); }
  std::size_t mapped_bytes() const { return capacity_ * memory_.block_bytes + kHugePage; }
  std::size_t region_of(std::size_t block) const { return block * memory_.block_bytes / kHugePage; }
  std::size_t first_block(std::size_t region) const;
  std::size_t blocks(std::size_t region) const { return first_block(region + 1) - first_block(region); }
  void give_back(std::size_t region);
  void make_huge(std::size_t region);
  void forget_last();

  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  void* mapping_ = nullptr;  // what memory_ is the whole huge pages of
  BlockMemory memory_;
  std::size_t capacity_ = 0;               // in blocks
  std::atomic<std::size_t> held_{0};       // likewise
  std::vector<std::uint32_t> references_;  // [block] of all regions; it does not move while others may look
  std::mutex mutex_;                       // of all that follows, and of which blocks are held
  std::vector<Region> regions_;
  std::size_t lowest_ = 0;  // no region below it has a free block
};

}  // namespace lamina
