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

// Free blocks that stay resident: a decode step takes and frees a few blocks in every layer.
constexpr std::size_t kWarmBlocks = 512;

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
  if (warm_.size() <= 2 * kWarmBlocks) return;
  // Blocks that are neighbours are given back together: a system call for each block would cost more than encoding it.
  std::sort(warm_.begin(), warm_.end());
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t i = kWarmBlocks; i < warm_.size();) {
    std::size_t end = i + 1;
    while (end < warm_.size() && warm_[end] == warm_[end - 1] + 1) ++end;
    if (memory_.base) {
      const std::size_t from = (warm_[i] * memory_.block_bytes + page - 1) / page * page;
      const std::size_t to = (warm_[end - 1] + std::size_t{1}) * memory_.block_bytes / page * page;
      if (from < to) ::madvise(memory_.base + from, to - from, MADV_DONTNEED);
    }
    i = end;
  }
  cold_.insert(cold_.end(), warm_.rbegin(), warm_.rend() - kWarmBlocks);  // lowest last: taken first
  warm_.resize(kWarmBlocks);
}

}  // namespace lamina
