// SPDX-License-Identifier: Apache-2.0
// Matrix products against the machine's limits, measured in the same run: one row of input (decode) against the read
// bandwidth of memory, 512 rows (prompt) against the peak of the integer dot product. "of_limit" is the fraction.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "engine/machine.h"
#include "model/matrix.h"

namespace {

using namespace lamina;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

ThreadPool& pool(int threads) {
  static ThreadPool one(1);
  static ThreadPool two(2);
  return threads == 1 ? one : two;
}

std::vector<std::byte> random_bytes(std::size_t bytes) {
  std::mt19937_64 random(1);
  std::vector<std::byte> out(bytes);
  for (auto& b : out) b = static_cast<std::byte>(random() & 0xff);
  return out;
}

// Blocks of random codes; scales (the first bytes of a block) are kept ordinary numbers.
Matrix random_matrix(TensorType type, std::int64_t rows, std::int64_t cols) {
  const std::size_t bytes = static_cast<std::size_t>(rows * cols / 32) * block_bytes(type);
  std::vector<std::byte> data = random_bytes(bytes);
  for (std::size_t i = 0; i < bytes; i += block_bytes(type)) {
    data[i + 1] = std::byte{0x2c};
    if (type == TensorType::kQ4_1) data[i + 3] = std::byte{0xac};
  }
  TensorView view{.name = "w", .type = type, .shape = {rows, cols}, .data = data};
  HugePages memory(Matrix::packed_bytes(view));
  return Matrix::pack(view, pool(2), memory);
}

std::vector<float> random_floats(std::size_t n) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (auto& v : out) v = normal(random);
  return out;
}

// Measured once for each number of threads.
const MachineLimits& limits(int threads) {
  static const MachineLimits one = measure_machine(pool(1), 0.25), two = measure_machine(pool(2), 0.25);
  return threads == 1 ? one : two;
}

// ---- products -------------------------------------------------------------------------------------------------------

// As many copies as exceed the caches, used in turn, as a model's layers are.
void decode(benchmark::State& state, TensorType type, std::int64_t rows, std::int64_t cols, int inputs) {
  const int threads = static_cast<int>(state.range(0));
  const double limit = limits(threads).read_bytes;
  std::vector<Matrix> layers;
  do layers.push_back(random_matrix(type, rows, cols));
  while (layers.size() * layers[0].bytes() < (std::size_t{128} << 20));
  const auto x = random_floats(static_cast<std::size_t>(inputs * cols));
  std::vector<float> y(static_cast<std::size_t>(inputs * rows));
  Activations input;
  const std::vector<Inputs> fine(static_cast<std::size_t>(inputs), Inputs::kFine);
  double best = 0;
  while (state.KeepRunning()) {
    const auto start = std::chrono::steady_clock::now();
    for (const Matrix& layer : layers) {
      input.set(x.data(), fine, static_cast<int>(cols), pool(threads));
      const Product product{&layer, y.data(), rows};
      matmul(pool(threads), input, {&product, 1});
    }
    best = std::max(best, static_cast<double>(layers.size() * layers[0].bytes()) / seconds_since(start));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(layers.size() * layers[0].bytes()));
  state.counters["best_GB/s"] = best * 1e-9;
  state.counters["limit_GB/s"] = limit * 1e-9;
  state.counters["of_limit"] = best / limit;
}

void prompt(benchmark::State& state, TensorType type, std::int64_t rows, std::int64_t cols, int inputs) {
  const int threads = static_cast<int>(state.range(0));
  const double limit = limits(threads).int8_ops;
  const Matrix w = random_matrix(type, rows, cols);
  const auto x = random_floats(static_cast<std::size_t>(inputs * cols));
  std::vector<float> y(static_cast<std::size_t>(inputs * rows));
  const double operations = 2.0 * inputs * static_cast<double>(rows * cols);
  const std::vector<Inputs> coarse(static_cast<std::size_t>(inputs), Inputs::kCoarse);
  Activations input;
  double best = 0;
  while (state.KeepRunning()) {
    const auto start = std::chrono::steady_clock::now();
    input.set(x.data(), coarse, static_cast<int>(cols), pool(threads));
    const Product product{&w, y.data(), rows};
    matmul(pool(threads), input, {&product, 1});
    best = std::max(best, operations / seconds_since(start));
  }
  state.counters["best_GOP/s"] = best * 1e-9;
  state.counters["limit_GOP/s"] = limit * 1e-9;
  state.counters["of_limit"] = best / limit;
}

constexpr auto kQ4_1 = TensorType::kQ4_1;  // becomes W4
constexpr auto kQ8_0 = TensorType::kQ8_0;  // becomes W8
BENCHMARK_CAPTURE(decode, W4_up_1536x576, kQ4_1, 1536, 576, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(decode, W4_down_576x1536, kQ4_1, 576, 1536, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(decode, W8_up_1536x576, kQ8_0, 1536, 576, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(decode, W8_head_49152x576, kQ8_0, 49152, 576, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(decode, W4_up_batch4, kQ4_1, 1536, 576, 4)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(decode, W4_up_batch8, kQ4_1, 1536, 576, 8)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(prompt, W4_up_1536x576, kQ4_1, 1536, 576, 512)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(prompt, W4_down_576x1536, kQ4_1, 576, 1536, 512)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(prompt, W8_up_1536x576, kQ8_0, 1536, 576, 512)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(prompt, W8_down_576x1536, kQ8_0, 576, 1536, 512)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(prompt, W4_big_4096x4096, kQ4_1, 4096, 4096, 512)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
