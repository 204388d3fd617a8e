// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace lamina {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int tasks : {0, 1, 2, 31, 1000}) {
      std::vector<std::atomic<int>> ran(static_cast<std::size_t>(tasks));
      pool.parallel_for(tasks, [&](int task, int thread) {
        EXPECT_LT(thread, threads);
        ++ran[static_cast<std::size_t>(task)];
      });
      for (auto& count : ran) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, ManyShortLoops) {
  ThreadPool pool(3);
  std::atomic<int> sum = 0;
  for (int loop = 0; loop < 500; ++loop) pool.parallel_for(7, [&](int task, int) { sum += task; });
  EXPECT_EQ(sum, 500 * 21);
}

}  // namespace
}  // namespace lamina
