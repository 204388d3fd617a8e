// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer_ranking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace lamina {
namespace {

using Pairs = std::vector<std::pair<int, int>>;

Pairs names(const std::vector<LayerPair>& pairs) {
  Pairs names;
  for (const LayerPair& pair : pairs) names.emplace_back(pair.layer, pair.source);
  return names;
}

// Example (c) of the specification: one head, two positions.
TEST(KvSharerRanking, BothDefinitionsOfDistance) {
  const std::vector<double> a{3, 4, 0, 0}, b{0, 0, 0, 2}, zero(4);
  EXPECT_EQ(rows_distance(a, b, 2, LayerDistance::kHead), 3.5);
  EXPECT_EQ(rows_distance(a, b, 2, LayerDistance::kFlat), std::sqrt(29.0));  // 5.385
  // Half of K's and half of V's, whichever of them differs.
  EXPECT_EQ(layer_distance({a, zero}, {b, zero}, 2, LayerDistance::kHead), 1.75);
  EXPECT_EQ(layer_distance({zero, a}, {zero, b}, 2, LayerDistance::kHead), 1.75);
  EXPECT_EQ(layer_distance({a, zero}, {b, a}, 2, LayerDistance::kHead), 0.5 * (3.5 + 2.5));
  EXPECT_EQ(layer_distance({a, zero}, {b, a}, 2, LayerDistance::kFlat), 0.5 * (std::sqrt(29.0) + 5));
}

// Two differences of one position each are further apart by the mean of heads, one of two positions by the flat norm.
TEST(KvSharerRanking, TheDefinitionsRankDifferently) {
  const LayerRows zero{{0, 0, 0, 0}, {0, 0, 0, 0}}, two{{3, 0, 3, 0}, {0, 0, 0, 0}}, one{{0, 0, 0, 5}, {0, 0, 0, 0}};
  const std::vector<LayerRows> rows{zero, two, one};
  const KvShape shape{.layers = 3, .kv_heads = 1, .head_dim = 2};
  const auto first = [&](LayerDistance distance) {
    return names(rank_pairs(rows, shape, {.distance = distance, .order = LayerOrder::kSimilar})).front();
  };
  EXPECT_EQ(first(LayerDistance::kHead), (std::pair{2, 0}));  // 2.5 against 3 and 4
  EXPECT_EQ(first(LayerDistance::kFlat), (std::pair{1, 0}));  // 4.24 against 5 and 6.56
}

std::vector<LayerRows> on_a_line(const std::vector<double>& at) {
  std::vector<LayerRows> rows;
  for (const double x : at) rows.push_back({{x, 0}, {x, 0}});
  return rows;
}

TEST(KvSharerRanking, OrdersAndTies) {
  const std::vector<LayerRows> rows = on_a_line({0, 1, 2, 3});
  const KvShape shape{.layers = 4, .kv_heads = 1, .head_dim = 2};
  const auto ranked = [&](LayerOrder order, std::uint64_t seed = 1) {
    return rank_pairs(rows, shape, {.order = order, .seed = seed});
  };
  // Of equally distant pairs the higher layer comes first in either order.
  EXPECT_EQ(names(ranked(LayerOrder::kDissimilar)), (Pairs{{3, 0}, {3, 1}, {2, 0}, {3, 2}, {2, 1}, {1, 0}}));
  EXPECT_EQ(names(ranked(LayerOrder::kSimilar)), (Pairs{{3, 2}, {2, 1}, {1, 0}, {3, 1}, {2, 0}, {3, 0}}));
  EXPECT_EQ(ranked(LayerOrder::kDissimilar).front().distance, 3);
  const auto random = names(ranked(LayerOrder::kRandom));
  EXPECT_EQ(random, names(ranked(LayerOrder::kRandom)));
  EXPECT_NE(random, names(ranked(LayerOrder::kRandom, 2)));
  Pairs sorted = random;
  std::ranges::sort(sorted, std::greater());
  EXPECT_EQ(sorted, (Pairs{{3, 2}, {3, 1}, {3, 0}, {2, 1}, {2, 0}, {1, 0}}));
}

TEST(KvSharerRanking, TiesOfOneLayerGoToTheHigherSource) {
  const KvShape shape{.layers = 3, .kv_heads = 1, .head_dim = 2};
  EXPECT_EQ(names(rank_pairs(on_a_line({0, 0, 0}), shape, {})), (Pairs{{2, 1}, {2, 0}, {1, 0}}));
}

TEST(KvSharerRanking, KindsOfLayersAreNotPairedUnasked) {
  const std::vector<LayerRows> rows = on_a_line({0, 1, 2, 3});
  const KvShape shape{.layers = 4, .kv_heads = 1, .head_dim = 2, .windows = {8, 0, 8, 0}};
  EXPECT_EQ(names(rank_pairs(rows, shape, {})), (Pairs{{3, 1}, {2, 0}}));
  EXPECT_EQ(rank_pairs(rows, shape, {.across_kinds = true}).size(), 6U);
}

}  // namespace
}  // namespace lamina
