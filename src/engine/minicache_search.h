// SPDX-License-Identifier: Apache-2.0
// Which layers are most alike, for MiniCache (arXiv:2405.14366) with pairs that were measured instead of neighbours.
#pragma once
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "kv/layers/minicache.h"
#include "model/forward.h"

namespace lamina {

struct PairDistance {
  int lower = 0, deeper = 0;
  double distance =
      0;  // the angle between the layers' rows over pi: mean over tokens, and over K and V where both count
};

// All pairs of layers that may share (of one kind, unless `across_kinds`), the most alike first; of equal ones the
// deepest. Sentences are prompts of their own. config.keys and .values say which tensors count, .by_head whether the
// angle is one over all KV heads or the mean of theirs.
std::vector<PairDistance> rank_alike(Model& model, ThreadPool& pool, const std::vector<std::vector<Token>>& sentences,
                                     const MiniCache& config, bool across_kinds);

// The first pairs of the ranking that have no layer in common.
std::vector<std::pair<int, int>> choose_pairs(const std::vector<PairDistance>& ranking);

}  // namespace lamina
