// SPDX-License-Identifier: Apache-2.0
// Which layers are most alike, for MiniCache (arXiv:2405.14366) with pairs that were measured instead of neighbours.
#pragma once
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "kv/layers/pair_file.h"
#include "model/forward.h"

namespace lamina {

// All pairs of layers that may share, the most alike first; of equal ones the deepest. Sentences are prompts of their
// own.
std::vector<PairDistance> rank_alike(Model& model, ThreadPool& pool, const std::vector<std::vector<Token>>& sentences,
                                     const PairOptions& options);

// The first pairs of the ranking that have no layer in common.
std::vector<std::pair<int, int>> choose_pairs(const std::vector<PairDistance>& ranking);

}  // namespace lamina
