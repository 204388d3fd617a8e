// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

#include <algorithm>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/stopwatch.h"
#include "kernels/peak.h"

namespace lamina {
namespace {

// Everything is timed in short pieces, of which the best counts: on a machine that does other things as well, threads
// run undisturbed beside each other only now and then, and not for long (two of Zen 5 on a busy machine, float32: 530
// GOP/s in pieces of 0.1 to 0.4 ms, 270 in pieces of 5).
constexpr double kPieceSeconds = 0.0002;
constexpr std::size_t kMemoryBytes = std::size_t{512} << 20;  // more than the caches of a processor
constexpr std::size_t kPieceBytes = std::size_t{32} << 20, kTaskBytes = kPieceBytes / 64;
static_assert(kTaskBytes % kReadBytes == 0);

// The least that piece() took, in seconds, of all that fit into so many.
template <class Fn>
double least_seconds(double seconds, Fn piece) {
  const Stopwatch watch;
  double least = piece();
  while (watch.seconds() < seconds) least = std::min(least, piece());
  return least;
}

double peak(const PeakLoop& loop, ThreadPool& pool, double seconds) {
  if (loop.run == nullptr) return 0;
  std::int64_t rounds = 1000;
  const auto piece = [&] {
    const Stopwatch watch;
    pool.parallel_for(pool.threads(), [&](int, int) { loop.run(rounds); });
    return watch.seconds();
  };
  while (piece() < kPieceSeconds) rounds *= 2;
  return loop.operations * static_cast<double>(rounds) * pool.threads() / least_seconds(seconds, piece);
}

double read_bandwidth(const PeakKernels& kernels, ThreadPool& pool, double seconds) {
  AlignedBuffer memory(kMemoryBytes);
  const auto each_task = [&](std::size_t first, std::size_t bytes, auto fn) {
    const Stopwatch watch;
    pool.parallel_for(static_cast<int>(bytes / kTaskBytes),
                      [&](int task, int) { fn(memory.data() + first + static_cast<std::size_t>(task) * kTaskBytes); });
    return watch.seconds();
  };
  // pages that were never written to are all the same one
  each_task(0, kMemoryBytes, [](std::byte* p) { std::memset(p, 0, kTaskBytes); });
  std::size_t first = 0;
  return kPieceBytes / least_seconds(seconds, [&] {
           first = (first + kPieceBytes) % kMemoryBytes;
           return each_task(first, kPieceBytes, [&](const std::byte* p) { kernels.read(p, kTaskBytes); });
         });
}

}  // namespace

MachineLimits measure_machine(ThreadPool& pool, double seconds) {
  const PeakKernels kernels = peak_kernels(chosen_isa());
  return {.threads = pool.threads(),
          .read_bytes = read_bandwidth(kernels, pool, seconds),
          .f32_ops = peak(kernels.f32, pool, seconds),
          .bf16_ops = peak(kernels.bf16, pool, seconds),
          .int8_ops = peak(kernels.int8, pool, seconds)};
}

Bound bound(const MachineLimits& limits, const Work& work) {
  const double memory = work.bytes / limits.read_bytes;
  const double f32 = work.f32_ops / limits.f32_ops, int8 = work.int_ops / limits.int8_ops;
  if (memory <= 0 && f32 + int8 <= 0) return {};
  if (memory >= f32 + int8) return {.seconds = memory, .by = "memory"};
  return {.seconds = f32 + int8, .by = f32 > int8 ? "float32" : "int8"};
}

std::vector<int> thread_steps(int threads) {
  std::vector<int> steps;
  for (int n = 1; n < threads; n *= 2) steps.push_back(n);
  steps.push_back(threads);
  return steps;
}

}  // namespace lamina
