// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured: what a speed is to be held against.
#pragma once
#include <vector>

#include "base/thread_pool.h"
#include "base/work.h"
#include "kernels/kernels.h"

namespace lamina {

struct MachineLimits {  // all per second
  int threads = 0;
  double read_bytes = 0;  // of memory, by plain loads
  double f32_ops = 0;     // of fused multiply-adds; an addition and a multiplication are two
  double bf16_ops = 0;    // of dot products of pairs; 0: the processor has none
  double int8_ops = 0;    // of dot products of four bytes
};

// The least time that some work takes, and what limits it.
struct Bound {
  double seconds = 0;
  const char* by = "";  // "memory", "float32", "int8"; empty: there is no work
};
Bound bound(const MachineLimits& limits, const Work& work);

// The best that was seen in so many seconds for each figure. All the pool's threads work at once.
MachineLimits measure_machine(ThreadPool& pool, double seconds);

// 1, 2, 4, … and all of them.
std::vector<int> thread_steps(int threads);

}  // namespace lamina
