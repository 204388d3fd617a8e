// SPDX-License-Identifier: Apache-2.0
// Attention against what the machine can do: decode in GB/s of K and V bytes beside a plain read of memory in the same
// run ("of_limit" is the best pass's share), prompts in GFLOP/s beside the peak of fused multiply-adds. Enough layers
// to leave every cache; blocks in order, as a fresh pool gives them (scattered blocks of 4 KB took 2.5 times as long,
// of 32 KB 1.6 times: Zen 5, f16, 8192 rows).
#include <benchmark/benchmark.h>

#include <cmath>
#include <limits>
#include <map>

#include "attention/attention.h"
#include "base/stopwatch.h"
#include "engine/machine.h"
#include "stored_rows.h"

namespace lamina {
namespace {

struct Heads {
  int heads, kv_heads, head_dim;
};
constexpr Heads kSmolLm{9, 3, 64}, kGemma{4, 1, 256}, kSmall{12, 4, 32}, kLlama{8, 2, 128};

const MachineLimits& limits(int threads) {
  static std::map<int, MachineLimits> measured;
  const auto [found, is_new] = measured.try_emplace(threads);
  if (is_new) {
    ThreadPool pool(threads);
    found->second = measure_machine(pool, 0.25);
  }
  return found->second;
}

// The cache of a model: rows [layer][kv_head].
class Cache {
 public:
  Cache(Format k, Format v, Heads heads, int layers, int rows)
      : arena_(kBlockBytes, layers * heads.kv_heads * blocks_of_head(k, v, heads.head_dim, rows),
               BlockOrder::kAscending),
        layers_(static_cast<std::size_t>(layers)) {
    std::mt19937 random(1);
    const std::size_t n = static_cast<std::size_t>(rows) * static_cast<std::size_t>(heads.head_dim);
    const std::vector<float> x = random_floats(random, n), y = random_floats(random, n);
    std::vector<Pos> pos(static_cast<std::size_t>(rows));
    std::iota(pos.begin(), pos.end(), 0);
    for (auto& layer : layers_) {
      for (int h = 0; h < heads.kv_heads; ++h)
        layer.segments.push_back(store_rows(arena_, {k, v, heads.head_dim}, x, y, pos));
      for (const Segment& segment : layer.segments) layer.spans.emplace_back(&segment, 1);
    }
    const std::size_t tile = code_tile_bytes(k, heads.head_dim) + code_tile_bytes(v, heads.head_dim) +
                             scale_tile_bytes(k, heads.head_dim) / (by_channel(k) ? 2 : 1) +
                             scale_tile_bytes(v, heads.head_dim);
    layer_bytes_ = tile * static_cast<std::size_t>(heads.kv_heads) * static_cast<std::size_t>(rows) / kTileRows;
  }
  std::span<const std::span<const Segment>> layer(std::size_t l) const { return layers_[l % layers_.size()].spans; }
  std::size_t layers() const { return layers_.size(); }
  const BlockMemory& memory() const { return arena_.memory(); }
  std::size_t layer_bytes() const { return layer_bytes_; }

 private:
  static constexpr std::size_t kBlockBytes = 32768;
  static int blocks_of_head(Format k, Format v, int d, int rows) {
    std::size_t blocks = 0;
    for (const std::size_t tile :
         {code_tile_bytes(k, d), code_tile_bytes(v, d), scale_tile_bytes(k, d), scale_tile_bytes(v, d)})
      blocks += tile * static_cast<std::size_t>(rows) / kTileRows / kBlockBytes + 1;
    return static_cast<int>(blocks);
  }
  struct Layer {
    std::vector<Segment> segments;
    std::vector<std::span<const Segment>> spans;
  };
  BlockArena arena_;
  std::vector<Layer> layers_;
  std::size_t layer_bytes_ = 0;
};

AttentionShape shape_of(Heads heads) {
  return {heads.heads, heads.kv_heads, heads.head_dim, 1 / std::sqrt(static_cast<float>(heads.head_dim))};
}

void decode(benchmark::State& state, Heads heads, Format k, Format v) {
  const int rows = static_cast<int>(state.range(0)), threads = static_cast<int>(state.range(1));
  // Layers of 256 MB: caches that hold some of fewer would answer for memory.
  const std::size_t row_bytes = (code_tile_bytes(k, heads.head_dim) + code_tile_bytes(v, heads.head_dim)) / kTileRows;
  const std::size_t layer_bytes = area(rows, heads.kv_heads) * row_bytes;
  const Cache cache(k, v, heads, static_cast<int>((std::size_t{256} << 20) / layer_bytes), rows);
  ThreadPool pool(threads);
  AttentionScratch scratch;
  Rope rope({.dims = heads.head_dim});
  rope.reserve(rows);
  std::mt19937 random(2);
  const std::vector<float> q = random_floats(random, area(heads.heads, heads.head_dim));
  std::vector<float> out(q.size());
  const Pos pos = rows - 1;
  std::size_t layer = 0;
  double least = std::numeric_limits<double>::infinity();
  while (state.KeepRunning()) {
    const Stopwatch watch;
    for (std::size_t end = layer + cache.layers(); layer < end; ++layer) {
      const Query query{q.data(), {&pos, 1}, cache.layer(layer), out.data()};
      attend(pool, cache.memory(), shape_of(heads), rope, {&query, 1}, scratch);
      benchmark::DoNotOptimize(out.data());
    }
    least = std::min(least, watch.seconds());
  }
  const auto bytes = static_cast<double>(cache.layer_bytes() * cache.layers());
  state.SetBytesProcessed(static_cast<std::int64_t>(cache.layer_bytes() * layer));
  state.counters["layer_us"] = 1e6 * least / static_cast<double>(cache.layers());
  state.counters["limit_GB/s"] = limits(threads).read_bytes * 1e-9;
  state.counters["of_limit"] = bytes / least / limits(threads).read_bytes;
}

// What FastGen asks for costs the difference between these two; `scores` is one pass of queries over keys, the least
// that it could take.
void prompt(benchmark::State& state, Heads heads, Format k, Format v, bool observed = false) {
  const int tokens = static_cast<int>(state.range(0)), threads = static_cast<int>(state.range(1));
  const Cache cache(k, v, heads, 2, tokens);
  ThreadPool pool(threads);
  AttentionScratch scratch;
  Rope rope({.dims = heads.head_dim});
  rope.reserve(tokens);
  std::mt19937 random(2);
  const std::vector<float> q = random_floats(random, area(tokens * heads.heads, heads.head_dim));
  std::vector<float> out(q.size());
  std::vector<Pos> pos(static_cast<std::size_t>(tokens));
  std::iota(pos.begin(), pos.end(), 0);
  std::vector<float> lse(area(tokens, heads.heads));
  const Observe what{.first_query = 0, .far = tokens * 3 / 10};
  std::vector<std::vector<float>> sums(static_cast<std::size_t>(heads.kv_heads), std::vector<float>(area(tokens, 2)));
  std::vector<float*> mass;
  for (auto& head : sums) mass.push_back(head.data());
  std::size_t layer = 0;
  while (state.KeepRunning()) {
    Query query{q.data(), pos, cache.layer(layer++), out.data()};
    query.prompt = true;
    query.lse = lse.data();
    if (observed) query.observation = {.what = what, .mass = mass};
    attend(pool, cache.memory(), shape_of(heads), rope, {&query, 1}, scratch);
    benchmark::DoNotOptimize(out.data());
  }
  const double pairs = 0.5 * tokens * (tokens + 1.0) * heads.heads;  // of a query and a visible row
  state.counters["limit_GFLOP/s"] = limits(threads).f32_ops * 1e-9;
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * pairs * heads.head_dim * static_cast<double>(layer), benchmark::Counter::kIsRate);
}

void observed(benchmark::State& state, Heads heads, Format k, Format v) { prompt(state, heads, k, v, true); }

// The scores of all visible rows, block by block as a prompt computes them, and nothing else.
void scores(benchmark::State& state, Heads heads, Format k, Format v) {
  constexpr int kQueries = 96, kBlock = 128;
  const int tokens = static_cast<int>(state.range(0)), dim = padded_dim(heads.head_dim);
  const Cache cache(k, v, heads, 2, tokens);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const AttendKernels& kernels = attend_kernels(chosen_isa());
  std::mt19937 random(2);
  const std::vector<float> q = random_floats(random, area(kQueries, dim));
  const int group = heads.heads / heads.kv_heads, tile_tokens = kQueries / group;
  std::size_t layer = 0;
  const auto tile_scores = [&](const Segment& segment, int last_row, std::vector<float>& block,
                               std::vector<float>& to) {
    for (int row = 0; row < last_row; row += kBlock) {
      const int n = std::min(kBlock, last_row - row);
      std::vector<const std::byte*> codes, scales;
      for (int tile = row / kTileRows; tile * kTileRows < row + n; ++tile) {
        codes.push_back(segment.k_codes.tile(cache.memory(), static_cast<std::uint32_t>(tile)));
        if (segment.k_scales) scales.push_back(segment.k_scales.tile(cache.memory(), static_cast<std::uint32_t>(tile)));
      }
      const TileRun run{codes.data(), scales.data(), 0, n, dim};
      kernels.unpack_keys[static_cast<int>(k)](run, block.data());
      kernels.product({.a = q.data(),
                       .b = block.data(),
                       .c = to.data() + row,
                       .rows = tile_tokens * group,
                       .panels = run.tiles(),
                       .depth = dim,
                       .a_stride = static_cast<std::size_t>(dim),
                       .panel_stride = static_cast<std::size_t>(dim) * kTileRows,
                       .depth_stride = kTileRows,
                       .c_stride = static_cast<std::size_t>(tokens + kBlock)});
    }
  };
  while (state.KeepRunning()) {
    const auto head_rows = cache.layer(layer++);
    const int tiles = (tokens + tile_tokens - 1) / tile_tokens;
    pool.parallel_for(tiles * heads.kv_heads, [&](int task, int) {
      thread_local std::vector<float> block(area(kBlock, 512)), to(area(kQueries, 1 << 13));
      const int last = std::min(tokens, (task / heads.kv_heads + 1) * tile_tokens);
      tile_scores(head_rows[static_cast<std::size_t>(task % heads.kv_heads)].front(), last, block, to);
      benchmark::DoNotOptimize(to.data());
    });
  }
}

void encode(benchmark::State& state, Format format, RowKind kind) {
  const int rows = 512;
  BlockArena arena(32768, 64);
  const RowPlanes planes{arena.memory(),
                         kind,
                         format,
                         64,
                         arena.plane(code_tile_bytes(format, 64), 0, rows),
                         arena.scales(format, 64, 0, rows)};
  std::mt19937 random(3);
  const std::vector<float> x = random_floats(random, rows * 64);
  while (state.KeepRunning()) write_rows(planes, 0, x.data(), 64, rows);
  state.SetItemsProcessed(state.iterations() * rows);
}

#define LAMINA_FORMATS(bench, ...)                                                                \
  BENCHMARK_CAPTURE(bench, smollm_f32, kSmolLm, Format::kF32, Format::kF32) __VA_ARGS__;          \
  BENCHMARK_CAPTURE(bench, smollm_f16, kSmolLm, Format::kF16, Format::kF16) __VA_ARGS__;          \
  BENCHMARK_CAPTURE(bench, smollm_bf16, kSmolLm, Format::kBF16, Format::kBF16) __VA_ARGS__;       \
  BENCHMARK_CAPTURE(bench, smollm_k8v8, kSmolLm, Format::kInt8, Format::kInt8) __VA_ARGS__;       \
  BENCHMARK_CAPTURE(bench, smollm_k8v4, kSmolLm, Format::kInt8, Format::kInt4) __VA_ARGS__;       \
  BENCHMARK_CAPTURE(bench, smollm_k4v4, kSmolLm, Format::kInt4, Format::kInt4) __VA_ARGS__;       \
  BENCHMARK_CAPTURE(bench, smollm_kivi4, kSmolLm, Format::kChannel4, Format::kAsym4) __VA_ARGS__; \
  BENCHMARK_CAPTURE(bench, gemma_f16, kGemma, Format::kF16, Format::kF16) __VA_ARGS__;            \
  BENCHMARK_CAPTURE(bench, gemma_k8v8, kGemma, Format::kInt8, Format::kInt8) __VA_ARGS__;         \
  BENCHMARK_CAPTURE(bench, gemma_k4v4, kGemma, Format::kInt4, Format::kInt4) __VA_ARGS__
#define LAMINA_HEADS(bench, name, heads, ...)                                             \
  BENCHMARK_CAPTURE(bench, name##_f16, heads, Format::kF16, Format::kF16) __VA_ARGS__;    \
  BENCHMARK_CAPTURE(bench, name##_k8v8, heads, Format::kInt8, Format::kInt8) __VA_ARGS__; \
  BENCHMARK_CAPTURE(bench, name##_k4v4, heads, Format::kInt4, Format::kInt4) __VA_ARGS__; \
  BENCHMARK_CAPTURE(bench, name##_kivi4, heads, Format::kChannel4, Format::kAsym4) __VA_ARGS__

LAMINA_FORMATS(decode, ->ArgsProduct({{1024, 8192}, {1, 2}})->UseRealTime()->Unit(benchmark::kMillisecond));
LAMINA_HEADS(decode, heads_of_32,
             kSmall, ->ArgsProduct({{8192}, {1, 2}})->UseRealTime()->Unit(benchmark::kMillisecond));
LAMINA_HEADS(decode, heads_of_128,
             kLlama, ->ArgsProduct({{8192}, {1, 2}})->UseRealTime()->Unit(benchmark::kMillisecond));
LAMINA_FORMATS(prompt, ->ArgsProduct({{512, 2048}, {1, 2}})->UseRealTime()->Unit(benchmark::kMicrosecond));
BENCHMARK_CAPTURE(observed, smollm_f16, kSmolLm, Format::kF16, Format::kF16)
    ->Args({1024, 1})
    ->Args({1024, 2})
    ->UseRealTime();
BENCHMARK_CAPTURE(scores, smollm_f16, kSmolLm, Format::kF16, Format::kF16)
    ->Args({1024, 1})
    ->Args({1024, 2})
    ->UseRealTime();
BENCHMARK_CAPTURE(prompt, smollm_1024, kSmolLm, Format::kF16, Format::kF16, false)
    ->Args({1024, 1})
    ->Args({1024, 2})
    ->UseRealTime();
BENCHMARK_CAPTURE(encode, f16_keys, Format::kF16, RowKind::kKey);
BENCHMARK_CAPTURE(encode, f16_values, Format::kF16, RowKind::kValue);
BENCHMARK_CAPTURE(encode, int8_keys, Format::kInt8, RowKind::kKey);
BENCHMARK_CAPTURE(encode, int8_values, Format::kInt8, RowKind::kValue);
BENCHMARK_CAPTURE(encode, int4_keys, Format::kInt4, RowKind::kKey);
BENCHMARK_CAPTURE(encode, int4_values, Format::kInt4, RowKind::kValue);
BENCHMARK_CAPTURE(encode, channel4_keys, Format::kChannel4, RowKind::kKey);
BENCHMARK_CAPTURE(encode, asym4_values, Format::kAsym4, RowKind::kValue);

}  // namespace
}  // namespace lamina

BENCHMARK_MAIN();
