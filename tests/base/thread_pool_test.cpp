// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
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

// What a task throws, on whichever thread, reaches the caller; the loop ends and the next one runs.
TEST(ThreadPool, CarriesTheFirstExceptionToTheCaller) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int loop = 0; loop < 50; ++loop) {
      std::atomic<int> ran = 0;
      const auto fails_at = [&](int bad) {
        pool.parallel_for(1000, [&](int task, int) {
          ++ran;
          if (task == bad) throw std::out_of_range(std::to_string(task));
        });
      };
      EXPECT_THROW(fails_at(loop), std::out_of_range);
      EXPECT_GT(ran, 0);
      ran = 0;
      EXPECT_NO_THROW(fails_at(-1));
      EXPECT_EQ(ran, 1000);
    }
  }
}

// Every task throws, on all threads at once: one exception comes, and no other task begins.
TEST(ThreadPool, LeavesOutTheTasksAfterAnException) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 50; ++loop) {
    std::atomic<int> ran = 0;
    std::string what;
    try {
      pool.parallel_for(1000, [&](int, int) {
        ++ran;
        throw std::runtime_error("task");
      });
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    EXPECT_EQ(what, "task");
    EXPECT_LE(ran, 3);  // one a thread
  }
}

}  // namespace
}  // namespace lamina
