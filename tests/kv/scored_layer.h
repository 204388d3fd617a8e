// SPDX-License-Identifier: Apache-2.0
// A layer whose heads were given attention at random or by hand, for the tests of policies that choose by it.
#pragma once
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kv/token_policies.h"

namespace lamina {

using Sizes = std::vector<std::size_t>;
using Sets = std::vector<std::vector<Pos>>;

// Attention that the heads of one layer were given, and the norms of their keys: [head] of [row][query head].
struct Layer {
  int group = 1;
  std::vector<Pos> pos;
  std::vector<std::vector<float>> mass, norms;

  static Layer random(int heads, int group, Pos rows, unsigned seed) {
    std::mt19937 random(seed);
    std::exponential_distribution<float> exponential;  // attention is uneven
    Layer layer{.group = group, .pos = range(0, rows), .mass = {}, .norms = {}};
    for (int head = 0; head < heads; ++head) {
      layer.mass.emplace_back(static_cast<std::size_t>(rows * group));
      layer.norms.emplace_back(static_cast<std::size_t>(rows));
      for (float& x : layer.mass.back()) x = exponential(random) * (head == 0 ? 3.0F : 1.0F);
      for (float& x : layer.norms.back()) x = exponential(random);
    }
    return layer;
  }
};

// The positions that each head keeps.
inline Sets kept(const TokenPolicy& tokens, const Layer& layer, const Step& step) {
  std::vector<HeadRows> sets;
  std::uint8_t tag = 0;
  for (std::size_t head = 0; head < layer.mass.size(); ++head)
    sets.push_back({.pos = layer.pos,
                    .mass = layer.mass[head],
                    .columns = layer.group,
                    .key_norms = layer.norms.empty() ? std::span<const float>() : layer.norms[head],
                    .tag = &tag});
  std::vector<Keep> keep(sets.size());
  tokens.select(step, sets, keep);
  Sets result;
  for (const Keep& rows : keep) {
    EXPECT_TRUE(std::ranges::is_sorted(rows));
    result.emplace_back();
    for (const std::uint32_t row : rows) result.back().push_back(layer.pos.at(row));
  }
  return result;
}

inline Sizes sizes(const Sets& sets) {
  Sizes result(sets.size());
  std::ranges::transform(sets, result.begin(), [](const auto& set) { return set.size(); });
  return result;
}

inline std::size_t sum(const Sizes& x) { return std::accumulate(x.begin(), x.end(), std::size_t{0}); }

}  // namespace lamina
