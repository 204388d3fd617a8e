// SPDX-License-Identifier: Apache-2.0
// KVSharer's ranking (arXiv:2410.18517): how far apart two layers' K and V are, averaged over calibration sentences,
// and the order in which pairs of layers are tried.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kv/types.h"

namespace lamina {

// Two definitions go by one name, and they rank differently.
enum class LayerDistance {
  kHead,  // the authors' code: the norm over head_dim, averaged over heads and positions
  kFlat,  // the paper's text: the norm of the whole tensor as one vector
};
enum class LayerOrder { kDissimilar, kSimilar, kRandom };

// K and V of a layer, averaged over sentences of equal length.
struct LayerRows {
  std::vector<double> k, v;  // [token][kv_head][head_dim], K with rope applied
};

// `layer` would read the rows of `source`, which is lower.
struct LayerPair {
  int layer = 0, source = 0;
  double distance = 0;
  bool operator==(const LayerPair&) const = default;
};

struct RankingOptions {
  LayerDistance distance = LayerDistance::kHead;
  LayerOrder order = LayerOrder::kDissimilar;
  std::uint64_t seed = 1;     // of kRandom
  bool across_kinds = false;  // pairs of layers with different windows as well
};

// Of one tensor.
double rows_distance(std::span<const double> a, std::span<const double> b, int head_dim, LayerDistance distance);
// Half of K's and half of V's.
double layer_distance(const LayerRows& a, const LayerRows& b, int head_dim, LayerDistance distance);

// All pairs in the order in which they are tried; of equally distant ones first that of the higher layer, then that of
// the higher source. `layers` is [layer].
std::vector<LayerPair> rank_pairs(std::span<const LayerRows> layers, const KvShape& shape,
                                  const RankingOptions& options);
void order_pairs(std::vector<LayerPair>& pairs, LayerOrder order, std::uint64_t seed);

}  // namespace lamina
