// SPDX-License-Identifier: Apache-2.0
#include "kv/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

// Free blocks that stay resident, as a decode step takes and frees a few blocks in every layer: at most so many, and
// one for so many that are held.
constexpr std::size_t kWarmBlocks = 512, kHeldOfWarm = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

BlockPool::BlockPool(const KvShape& shape, std::size_t capacity_bytes, Format widest) {
  memory_.block_bytes = code_tile_bytes(widest, shape.head_dim);
  capacity_ = std::min<std::size_t>(capacity_bytes / memory_.block_bytes, std::numeric_limits<BlockId>::max());
  require(capacity_ > 0, "kv cache: a capacity of {} bytes holds no block of {} bytes", capacity_bytes,
          memory_.block_bytes);
  void* base = ::mmap(nullptr, capacity_ * memory_.block_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(base != MAP_FAILED, "kv cache: cannot reserve {} bytes of address space: {}", capacity_ * memory_.block_bytes,
          std::strerror(errno));
  // Attention walks along planes of 4 KiB blocks: without huge pages it waits for the address translation (Zen 5, one
  // layer of SmolLM2 at 8192 rows, scattered blocks: 801 us, with huge pages 641; in order 257).
  ::madvise(base, capacity_ * memory_.block_bytes, MADV_HUGEPAGE);
  memory_.base = static_cast<std::byte*>(base);
}

BlockPool BlockPool::counting(const KvShape& shape, Format widest) {
  BlockPool pool;
  pool.memory_.block_bytes = code_tile_bytes(widest, shape.head_dim);
  pool.capacity_ = std::numeric_limits<BlockId>::max();
  return pool;
}

BlockPool::~BlockPool() {
  if (memory_.base) ::munmap(memory_.base, capacity_ * memory_.block_bytes);
}

BlockPool::BlockPool(BlockPool&& other) noexcept
    : memory_(std::exchange(other.memory_, {})),
      capacity_(other.capacity_),
      held_(std::exchange(other.held_, 0)),
      references_(std::move(other.references_)),
      warm_(std::move(other.warm_)),
      cold_(std::move(other.cold_)) {}

BlockId BlockPool::acquire() {
  auto& free = warm_.empty() ? cold_ : warm_;
  BlockId block;
  if (!free.empty()) {
    block = free.back();
    free.pop_back();
  } else {
    require(references_.size() < capacity_, "kv cache: all {} bytes are in use", capacity_bytes());
    block = static_cast<BlockId>(references_.size());
    references_.push_back(0);
  }
  assert(references_[block] == 0);
  references_[block] = 1;
  ++held_;
  return block;
}

void BlockPool::release(BlockId block) {
  assert(references_[block] > 0);
  if (--references_[block] > 0) return;
  --held_;
  warm_.push_back(block);
}

void BlockPool::trim() {
  // The huge page of the last block goes on behind it.
  give_back(references_.size(), std::min(capacity_, references_.size() + kHugePage / memory_.block_bytes));
  const std::size_t kept = std::min(kWarmBlocks, held_ / kHeldOfWarm);
  if (warm_.size() <= kept) return;
  // Blocks that are neighbours are given back together: a system call for each would cost more than encoding it.
  std::sort(warm_.begin(), warm_.end());
  for (std::size_t i = kept, end = 0; i < warm_.size(); i = end) {
    for (end = i + 1; end < warm_.size() && warm_[end] == warm_[end - 1] + 1;) ++end;
    give_back(warm_[i], warm_[end - 1] + std::size_t{1});
  }
  cold_.insert(cold_.end(), warm_.begin() + static_cast<std::ptrdiff_t>(kept), warm_.end());
  warm_.resize(kept);
  warm_.shrink_to_fit();
  forget_last();
}

// Free blocks at the end are as if they had never been.
void BlockPool::forget_last() {
  std::sort(cold_.begin(), cold_.end());
  std::size_t blocks = references_.size();
  while (!cold_.empty() && cold_.back() + std::size_t{1} == blocks) cold_.pop_back(), --blocks;
  std::reverse(cold_.begin(), cold_.end());  // the lowest is taken first
  cold_.shrink_to_fit();
  references_.resize(blocks);
  references_.shrink_to_fit();
}

// The whole pages of blocks [first, last).
void BlockPool::give_back(std::size_t first, std::size_t last) {
  if (memory_.base == nullptr) return;
  static const auto kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t from = (first * memory_.block_bytes + kPage - 1) / kPage * kPage;
  const std::size_t to = last * memory_.block_bytes / kPage * kPage;
  if (from < to) ::madvise(memory_.base + from, to - from, MADV_DONTNEED);
}

}  // namespace lamina
