// SPDX-License-Identifier: Apache-2.0
// Matrix products against the machine's limits, measured in the same run: one row of input (decode) against the read
// bandwidth of memory, 512 rows (prompt) against the peak of the integer dot product. "of_limit" is the fraction.
#include <benchmark/benchmark.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <vector>

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
  return Matrix::pack(view, pool(2));
}

std::vector<float> random_floats(std::size_t n) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (auto& v : out) v = normal(random);
  return out;
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
__attribute__((target("avx2"))) std::uint64_t sum(const std::byte* p, std::size_t bytes) {
  __m256i a[4] = {};
  for (std::size_t i = 0; i < bytes; i += 128)
    for (int k = 0; k < 4; ++k)
      a[k] = _mm256_add_epi64(a[k], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i) + k));
  const __m256i all = _mm256_add_epi64(_mm256_add_epi64(a[0], a[1]), _mm256_add_epi64(a[2], a[3]));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0) + _mm256_extract_epi64(all, 2));
}

// `repeats` rounds of 12 independent chains of vpdpbusd.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) void dot_chains(std::int64_t repeats) {
  __m512i acc[12] = {};
  const __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(5);
  for (std::int64_t i = 0; i < repeats; ++i) {
#pragma GCC unroll 12
    for (auto& c : acc) c = _mm512_dpbusd_epi32(c, a, b);
  }
  for (auto& c : acc) benchmark::DoNotOptimize(c);
}
#else
std::uint64_t sum(const std::byte* p, std::size_t bytes) {
  return std::accumulate(p, p + bytes, std::uint64_t{0}, [](auto s, auto b) { return s + std::to_integer<int>(b); });
}
void dot_chains(std::int64_t) {}
#endif

double read_bandwidth(int threads) {  // bytes per second, best of 8
  static const AlignedBuffer memory = [] {
    AlignedBuffer m(std::size_t{512} << 20);
    std::fill_n(m.data(), m.size(), std::byte{1});
    return m;
  }();
  constexpr int kPieces = 64;
  double best = 0;
  for (int round = 0; round < 8; ++round) {
    const auto start = std::chrono::steady_clock::now();
    pool(threads).parallel_for(kPieces, [&](int piece, int) {
      const std::size_t bytes = memory.size() / kPieces;
      benchmark::DoNotOptimize(sum(memory.data() + static_cast<std::size_t>(piece) * bytes, bytes));
    });
    best = std::max(best, static_cast<double>(memory.size()) / seconds_since(start));
  }
  return best;
}

double dot_peak(int threads) {  // operations per second, best of 8
  if (!supported(Isa::kAvx512)) return 0;
  double best = 0;
  for (int round = 0; round < 8; ++round) {
    const auto start = std::chrono::steady_clock::now();
    pool(threads).parallel_for(threads, [&](int, int) { dot_chains(2'000'000); });
    best = std::max(best, threads * 2e6 * 12 * 64 * 2 / seconds_since(start));
  }
  return best;
}

// ---- products -------------------------------------------------------------------------------------------------------

// As many copies as exceed the caches, used in turn, as a model's layers are.
void decode(benchmark::State& state, TensorType type, std::int64_t rows, std::int64_t cols, int inputs) {
  const int threads = static_cast<int>(state.range(0));
  const double limit = read_bandwidth(threads);
  std::vector<Matrix> layers;
  do layers.push_back(random_matrix(type, rows, cols));
  while (layers.size() * layers[0].bytes() < (std::size_t{128} << 20));
  const auto x = random_floats(static_cast<std::size_t>(inputs * cols));
  std::vector<float> y(static_cast<std::size_t>(inputs * rows));
  Activations input;
  double best = 0;
  while (state.KeepRunning()) {
    const auto start = std::chrono::steady_clock::now();
    for (const Matrix& layer : layers) {
      input.set(x.data(), inputs, static_cast<int>(cols), pool(threads));
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
  const double limit = dot_peak(threads);
  const Matrix w = random_matrix(type, rows, cols);
  const auto x = random_floats(static_cast<std::size_t>(inputs * cols));
  std::vector<float> y(static_cast<std::size_t>(inputs * rows));
  const double operations = 2.0 * inputs * static_cast<double>(rows * cols);
  Activations input;
  double best = 0;
  while (state.KeepRunning()) {
    const auto start = std::chrono::steady_clock::now();
    input.set(x.data(), inputs, static_cast<int>(cols), pool(threads));
    const Product product{&w, y.data(), rows};
    matmul(pool(threads), input, {&product, 1});
    best = std::max(best, operations / seconds_since(start));
  }
  state.counters["best_GOP/s"] = best * 1e-9;
  state.counters["limit_GOP/s"] = limit * 1e-9;
  state.counters["of_limit"] = limit > 0 ? best / limit : 0;
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
