// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <cassert>
#include <system_error>

#include "base/error.h"

namespace lamina {
namespace {

// A worker spins this often before it sleeps: a decode step has some 200 short loops, a sleep and wake costs more
// than most of them; between requests it must not burn a core.
constexpr int kSpins = 20000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  assert(threads >= 1);
  try {
    for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work(t); });
  } catch (const std::system_error& error) {
    stop();
    fail("cannot start {} threads: {}", threads, error.what());
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stop_ = true;
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(int tasks, Call call, void* fn) {
  call_ = call;
  fn_ = fn;
  done_.store(0, std::memory_order_relaxed);
  tickets_.store(static_cast<std::uint64_t>(tasks) << 32, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  take_tasks(0);
  for (int spin = 0; done_.load(std::memory_order_acquire) != tasks; ++spin)
    if (spin < kSpins) {
      relax();
    } else {
      std::this_thread::yield();  // another process holds the core of a worker that has a task
    }
  if (!failed_) return;
  failed_ = false;
  std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && epoch_.load(std::memory_order_acquire) == seen; ++spin) relax();
    epoch_.wait(seen, std::memory_order_acquire);
    if (stop_) return;
    seen = epoch_.load(std::memory_order_acquire);
    take_tasks(thread);
  }
}

void ThreadPool::take_tasks(int thread) {
  const auto left = [](std::uint64_t ticket) { return (ticket & 0xffffffff) < ticket >> 32; };
  while (left(tickets_.load(std::memory_order_relaxed))) {
    const std::uint64_t ticket = tickets_.fetch_add(1, std::memory_order_acquire);
    if (!left(ticket)) return;
    try {
      if (!failed_.load(std::memory_order_relaxed)) call_(fn_, static_cast<int>(ticket & 0xffffffff), thread);
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
    done_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace lamina
