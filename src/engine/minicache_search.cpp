// SPDX-License-Identifier: Apache-2.0
#include "engine/minicache_search.h"

#include <algorithm>
#include <set>

#include "engine/map_trial.h"
#include "kv/layers/minicache.h"

namespace lamina {
namespace {

// The mean angular distance between the rows of two layers, each [row][width], taken in parts of a row.
double mean_distance(const std::vector<float>& a, const std::vector<float>& b, std::size_t part) {
  double sum = 0;
  for (std::size_t at = 0; at < a.size(); at += part)
    sum += angular_distance(std::span(a).subspan(at, part), std::span(b).subspan(at, part));
  return sum * static_cast<double>(part) / static_cast<double>(a.size());
}

}  // namespace

std::vector<PairDistance> rank_alike(Model& model, ThreadPool& pool, const std::vector<std::vector<Token>>& sentences,
                                     const PairOptions& options) {
  const KvShape shape = model.shape();
  const MapTrial trial(model, pool, sentences, KvSpec::parse("f32", shape), MapTrial::Feed::kPrompt);
  const StepTrace& trace = trial.traces().front();  // a prompt without a grid is one step
  std::vector<PairDistance> pairs;
  for (int lower = 0; lower < shape.layers; ++lower)
    for (int deeper = lower + 1; deeper < shape.layers; ++deeper)
      if (options.across_kinds || shape.window(LayerId{lower}) == shape.window(LayerId{deeper}))
        pairs.push_back({.lower = lower, .deeper = deeper});
  const auto part = static_cast<std::size_t>(options.by_head ? shape.head_dim : shape.kv_heads * shape.head_dim);
  pool.parallel_for(static_cast<int>(pairs.size()), [&](int i, int) {
    PairDistance& pair = pairs[static_cast<std::size_t>(i)];
    const auto& lower = trace.layers[static_cast<std::size_t>(pair.lower)];
    const auto& deeper = trace.layers[static_cast<std::size_t>(pair.deeper)];
    const double k = options.keys ? mean_distance(lower.k, deeper.k, part) : 0;
    const double v = options.values ? mean_distance(lower.v, deeper.v, part) : 0;
    pair.distance = (k + v) / (options.keys && options.values ? 2 : 1);
  });
  std::ranges::sort(pairs, [](const PairDistance& a, const PairDistance& b) {
    if (a.distance != b.distance) return a.distance < b.distance;
    return std::pair(a.lower, a.deeper) > std::pair(b.lower, b.deeper);
  });
  return pairs;
}

std::vector<std::pair<int, int>> choose_pairs(const std::vector<PairDistance>& ranking) {
  std::vector<std::pair<int, int>> pairs;
  std::set<int> taken;
  for (const PairDistance& pair : ranking) {
    if (taken.contains(pair.lower) || taken.contains(pair.deeper)) continue;
    taken.insert({pair.lower, pair.deeper});
    pairs.emplace_back(pair.lower, pair.deeper);
  }
  return pairs;
}

}  // namespace lamina
