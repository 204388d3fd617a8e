// SPDX-License-Identifier: Apache-2.0
// KVSharer's offline search (arXiv:2410.18517, 3.2): which layers of an ordinary model can read an earlier layer's K
// and V. Ranks pairs of layers on calibration sentences, then chooses among them by what they do to the model's output.
#pragma once
#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "kv/layers/kvsharer.h"
#include "model/forward.h"

namespace lamina {

// Called before each trial with the number of layers shared so far and the score of the last trial (NaN: none yet).
// It may throw to end the search.
using OnTrial = std::function<void(const LayerTrial& trial, int shared, double last_score)>;

// Sentences are of one length. Fills all but what the caller knows: architecture, calibration, seconds. Error for a
// model that was trained to share layers, and for options that do not fit it.
KvSharerSearch search_kvsharer(Model& model, ThreadPool& pool, const std::vector<std::vector<Token>>& sentences,
                               const KvSharerOptions& options, const OnTrial& on_trial);

}  // namespace lamina
