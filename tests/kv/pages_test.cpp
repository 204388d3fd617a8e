// SPDX-License-Identifier: Apache-2.0
#include "kv/pages.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace lamina {
namespace {

const KvShape kShape{.layers = 1, .kv_heads = 1, .head_dim = 64, .query_group = 1, .windows = {0}};

TEST(Pool, GivesMemoryBack) {
  BlockPool pool(kShape, 64 << 20);
  std::vector<BlockId> blocks;
  for (int i = 0; i < 4000; ++i) blocks.push_back(pool.acquire());
  EXPECT_EQ(pool.held_bytes(), 4000 * pool.memory().block_bytes);
  for (const BlockId block : blocks) pool.memory().base[block * pool.memory().block_bytes] = std::byte{1};
  for (const BlockId block : blocks) pool.release(block);
  pool.trim();
  EXPECT_EQ(pool.held_bytes(), 0U);
  EXPECT_EQ(pool.memory().base[3000 * pool.memory().block_bytes], std::byte{0});  // a fresh page
  EXPECT_THROW(BlockPool(kShape, 10), Error);
}

TEST(Pool, TakesTheLowestFreeBlock) {
  BlockPool pool(kShape, 64 << 20);
  for (BlockId block = 0; block < 2000; ++block) EXPECT_EQ(pool.acquire(), block);
  for (const BlockId block : {1500U, 7U, 3U}) pool.release(block);
  for (const BlockId block : {3U, 7U, 1500U, 2000U}) EXPECT_EQ(pool.acquire(), block);
}

// Huge pages are worth more than what little they waste; nothing is kept of those that are mostly free.
TEST(Pool, KeepsHugePagesThatAreMostlyHeld) {
  BlockPool pool(kShape, 64 << 20);
  const std::size_t bytes = pool.memory().block_bytes;
  const auto huge = static_cast<BlockId>((2 << 20) / bytes);
  for (BlockId block = 0; block < 2 * huge; ++block) pool.memory().base[pool.acquire() * bytes] = std::byte{1};
  const auto release = [&](BlockId first, BlockId last) {
    for (BlockId block = first; block < last; ++block) pool.release(block);
    pool.trim();
  };
  release(0, huge / 4);
  EXPECT_EQ(pool.memory().base[0], std::byte{1});
  release(huge / 4, huge / 4 + 2);
  EXPECT_EQ(pool.memory().base[0], std::byte{0});
  EXPECT_EQ(pool.memory().base[(huge - 1) * bytes], std::byte{1});  // it is held
  EXPECT_EQ(pool.acquire(), 0U);
}

// Sequences of a batch append and commit beside each other.
TEST(Pool, ThreadsNeverHoldOneBlockTwice) {
  BlockPool pool(kShape, 64 << 20);
  ThreadPool threads(3);
  const std::size_t bytes = pool.memory().block_bytes;
  const BlockId forked = pool.acquire();
  threads.parallel_for(12, [&](int task, int) {
    std::vector<BlockId> held;
    const auto mark = static_cast<std::byte>(task + 1);
    for (int round = 0; round < 30; ++round) {
      for (int i = 0; i < 60; ++i) pool.memory().base[held.emplace_back(pool.acquire()) * bytes] = mark;
      pool.share(forked);
      EXPECT_TRUE(pool.shared(forked));
      for (int i = 0; i < 40; ++i) {
        EXPECT_EQ(pool.memory().base[held.back() * bytes], mark);
        pool.release(held.back());
        held.pop_back();
      }
      pool.release(forked);
      if (round % 10 == 0) pool.trim();
    }
    for (const BlockId block : held) EXPECT_EQ(pool.memory().base[block * bytes], mark);
    for (const BlockId block : held) pool.release(block);
  });
  EXPECT_FALSE(pool.shared(forked));
  EXPECT_EQ(pool.held_bytes(), bytes);
  EXPECT_EQ(pool.acquire(), forked == 0 ? 1U : 0U);
}

}  // namespace
}  // namespace lamina
