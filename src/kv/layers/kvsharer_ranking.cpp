// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer_ranking.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <random>
#include <tuple>
#include <utility>

namespace lamina {

double rows_distance(std::span<const double> a, std::span<const double> b, int head_dim, LayerDistance distance) {
  assert(a.size() == b.size() && !a.empty() && a.size() % static_cast<std::size_t>(head_dim) == 0);
  const std::size_t row = distance == LayerDistance::kHead ? static_cast<std::size_t>(head_dim) : a.size();
  const std::size_t rows = a.size() / row;
  double sum = 0;
  for (std::size_t begin = 0; begin < a.size(); begin += row) {
    double squares = 0;
    for (std::size_t i = begin; i < begin + row; ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
    sum += std::sqrt(squares);
  }
  return sum / static_cast<double>(rows);
}

double layer_distance(const LayerRows& a, const LayerRows& b, int head_dim, LayerDistance distance) {
  return 0.5 * (rows_distance(a.k, b.k, head_dim, distance) + rows_distance(a.v, b.v, head_dim, distance));
}

std::vector<LayerPair> rank_pairs(std::span<const LayerRows> layers, const KvShape& shape,
                                  const RankingOptions& options) {
  std::vector<LayerPair> pairs;
  for (int layer = 1; layer < shape.layers; ++layer)
    for (int source = 0; source < layer; ++source) {
      if (!options.across_kinds && shape.window(LayerId{layer}) != shape.window(LayerId{source})) continue;
      const auto at = [&](int i) -> const LayerRows& { return layers[static_cast<std::size_t>(i)]; };
      pairs.push_back({layer, source, layer_distance(at(layer), at(source), shape.head_dim, options.distance)});
    }
  order_pairs(pairs, options.order, options.seed);
  return pairs;
}

void order_pairs(std::vector<LayerPair>& pairs, LayerOrder order, std::uint64_t seed) {
  std::ranges::sort(pairs, [order](const LayerPair& a, const LayerPair& b) {
    const double sign = order == LayerOrder::kDissimilar ? -1 : order == LayerOrder::kSimilar ? 1 : 0;
    return std::tuple(sign * a.distance, -a.layer, -a.source) < std::tuple(sign * b.distance, -b.layer, -b.source);
  });
  if (order != LayerOrder::kRandom) return;
  std::mt19937_64 random(seed);  // what std::shuffle does with it depends on the library
  for (std::size_t i = pairs.size(); i > 1; --i) std::swap(pairs[i - 1], pairs[random() % i]);
}

}  // namespace lamina
