// SPDX-License-Identifier: Apache-2.0
// A fixed set of threads that share out the tasks of one parallel loop at a time. Which thread runs a task is not
// fixed, so a task must write only its own results: then nothing depends on timing or on the number of threads.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace lamina {

class ThreadPool {
 public:
  // threads >= 1, the calling thread included. Error if the system refuses to start them.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(task, thread) for every task in [0, tasks), thread in [0, threads()): the thread index is for scratch
  // memory only. Returns when all have run. Where fn throws, tasks that have not begun are left out, and the caller
  // gets the first exception. Not re-entrant.
  template <class Fn>
  void parallel_for(int tasks, Fn&& fn) {
    if (tasks <= 0) return;
    if (workers_.empty() || tasks == 1) {
      for (int task = 0; task < tasks; ++task) fn(task, 0);
      return;
    }
    using F = std::remove_reference_t<Fn>;
    run(
        tasks, [](void* f, int task, int thread) { (*static_cast<F*>(f))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using Call = void (*)(void*, int task, int thread);
  void run(int tasks, Call call, void* fn);
  void stop();
  void work(int thread);
  void take_tasks(int thread);

  std::vector<std::thread> workers_;
  Call call_ = nullptr;  // of the running loop
  void* fn_ = nullptr;
  // The running loop's number of tasks (high half) and its next task (low half), in one word: a worker that comes late
  // sees from its ticket alone that nothing is left, so nobody has to wait until it has come.
  alignas(64) std::atomic<std::uint64_t> tickets_{0};
  alignas(64) std::atomic<int> done_{0};             // tasks of the running loop that have finished
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // a new value starts a loop
  std::atomic<bool> failed_{false};                  // a task of the running loop has thrown
  std::exception_ptr error_;                         // the first to do so
  std::atomic<bool> stop_{false};
};

}  // namespace lamina
