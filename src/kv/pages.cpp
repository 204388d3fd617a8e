// SPDX-License-Identifier: Apache-2.0
#include "kv/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"

namespace lamina {
BlockPool::BlockPool(const KvShape& shape, std::size_t capacity_bytes, Format widest) {
  memory_.block_bytes = code_tile_bytes(widest, shape.head_dim);
  capacity_ = std::min<std::size_t>(capacity_bytes / memory_.block_bytes, std::numeric_limits<BlockId>::max());
  require(capacity_ > 0, "kv cache: a capacity of {} bytes holds no block of {} bytes", capacity_bytes,
          memory_.block_bytes);
  mapping_ =
      ::mmap(nullptr, mapped_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(mapping_ != MAP_FAILED, "kv cache: cannot reserve {} bytes of address space: {}", mapped_bytes(),
          std::strerror(errno));
  // Attention walks along planes of 4 KiB blocks: without huge pages it waits for the address translation (Zen 5, one
  // layer of SmolLM2 at 8192 rows, scattered blocks: 801 us, with huge pages 641; in order 257).
  ::madvise(mapping_, mapped_bytes(), MADV_HUGEPAGE);
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  memory_.base = static_cast<std::byte*>(mapping_) + (kHugePage - address % kHugePage) % kHugePage;
  references_.reserve(first_block(region_of(capacity_ - 1) + 1));  // address space, like the blocks
}

BlockPool BlockPool::counting(const KvShape& shape, Format widest) {
  BlockPool pool;
  pool.memory_.block_bytes = code_tile_bytes(widest, shape.head_dim);
  pool.capacity_ = std::numeric_limits<BlockId>::max();
  return pool;
}

BlockPool::~BlockPool() {
  if (mapping_) ::munmap(mapping_, mapped_bytes());
}

BlockPool::BlockPool(BlockPool&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      memory_(std::exchange(other.memory_, {})),
      capacity_(other.capacity_),
      held_(other.held_.exchange(0)),
      references_(std::move(other.references_)),
      regions_(std::move(other.regions_)),
      lowest_(std::exchange(other.lowest_, 0)) {}

std::size_t BlockPool::first_block(std::size_t region) const {
  return std::min(capacity_, (region * kHugePage + memory_.block_bytes - 1) / memory_.block_bytes);
}

BlockId BlockPool::acquire() {
  const std::scoped_lock lock(mutex_);
  while (lowest_ < regions_.size() && regions_[lowest_].free == 0) ++lowest_;
  if (lowest_ == regions_.size()) {
    require(references_.size() < capacity_, "kv cache: all {} bytes are in use", capacity_bytes());
    regions_.push_back(
        {.free = static_cast<std::uint32_t>(blocks(lowest_)), .lowest = static_cast<BlockId>(references_.size())});
    references_.resize(first_block(regions_.size()));
  }
  Region& region = regions_[lowest_];
  // one that is just let go may be found before it is counted as free: its last reader is done with it
  while (references(region.lowest).load(std::memory_order_acquire) > 0) ++region.lowest;
  references(region.lowest).store(1, std::memory_order_relaxed);
  if (region.memory == Region::kTrimmed) region.memory = Region::kNew;
  --region.free;
  ++held_;
  return region.lowest++;
}

void BlockPool::release(BlockId block) {
  // who lets go last has seen what the others read
  const std::uint32_t before = references(block).fetch_sub(1, std::memory_order_acq_rel);
  assert(before > 0);
  if (before > 1) return;
  const std::scoped_lock lock(mutex_);
  const std::size_t of = region_of(block);
  Region& region = regions_[of];
  region.lowest = std::min(region.lowest, block);
  if (region.memory == Region::kTrimmed) region.memory = Region::kNew;
  ++region.free;
  --held_;
  lowest_ = std::min(lowest_, of);
}

void BlockPool::trim() {
  const std::scoped_lock lock(mutex_);
  for (std::size_t r = 0; r < regions_.size(); ++r) {
    const bool mostly_held = 4 * regions_[r].free <= blocks(r);
    if (mostly_held && regions_[r].memory != Region::kHuge) make_huge(r);
    if (!mostly_held && regions_[r].memory != Region::kTrimmed) give_back(r);
  }
  forget_last();
}

// Free regions at the end are as if they had never been.
void BlockPool::forget_last() {
  while (!regions_.empty() && regions_.back().free == blocks(regions_.size() - 1)) regions_.pop_back();
  regions_.shrink_to_fit();
  references_.resize(first_block(regions_.size()));
  if (counts_only()) references_.shrink_to_fit();
  lowest_ = std::min(lowest_, regions_.size());
}

// Where memory was given back in parts, the system hands out small pages from then on, though all of it be free.
void BlockPool::make_huge(std::size_t region) {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, Linux 6.1; failing is harmless
  regions_[region].memory = Region::kHuge;
  const std::size_t first = region * kHugePage;
  if (memory_.base && first + kHugePage <= capacity_bytes()) ::madvise(memory_.base + first, kHugePage, kCollapse);
}

// The whole pages of a region's free blocks.
void BlockPool::give_back(std::size_t region) {
  regions_[region].memory = Region::kTrimmed;
  if (memory_.base == nullptr) return;
  static const auto kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t last = first_block(region + 1);
  for (std::size_t end = first_block(region); end < last; ++end) {
    const std::size_t first = end;
    while (end < last && references(static_cast<BlockId>(end)).load(std::memory_order_acquire) == 0) ++end;
    const std::size_t from = (first * memory_.block_bytes + kPage - 1) / kPage * kPage;
    const std::size_t to = end * memory_.block_bytes / kPage * kPage;
    if (from < to) ::madvise(memory_.base + from, to - from, MADV_DONTNEED);
  }
}

}  // namespace lamina
