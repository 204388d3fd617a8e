// SPDX-License-Identifier: Apache-2.0
// KVSharer's choice of a layer map: from a ranking of pairs and a judge of maps, which pairs are accepted. Knows no
// model: the judge runs it.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "kv/layers/kvsharer_ranking.h"

namespace lamina {

// A pair that was tried.
struct LayerTrial {
  int layer = 0, source = 0;
  int rank = 0;      // its index in the ranking
  double score = 0;  // of the map with this pair: cosine or KL
  bool operator==(const LayerTrial&) const = default;
};

// Who says how good a map is.
struct MapJudge {
  std::function<double(const std::vector<int>& target)> score;
  // What is tried next differs little from this map, which saves the judge work.
  std::function<void(const std::vector<int>& target)> adopt;
  // Called before a trial, whose score is not known yet, with the number of layers shared so far. It may throw.
  std::function<void(const LayerTrial& trial, int shared)> on_trial = [](const LayerTrial&, int) {};
};

struct MapChoice {
  std::vector<int> target;                     // [layer] the layer whose rows it reads
  std::vector<LayerTrial> accepted, rejected;  // in the order of trial
  int tries = 0;
  int shared() const { return static_cast<int>(accepted.size()); }
};

// `target` with `layer` reading what `source` reads, and whoever read `layer` doing likewise: nobody reads a layer that
// reads another.
std::vector<int> with_source(std::vector<int> target, int layer, int source);

// The paper's: pair by pair as ranked, a layer replaced at most once; accepted where the score of the map with it is
// above the threshold. Ends when `share` layers are shared, or with fewer when the ranking is exhausted.
MapChoice choose_greedily(std::span<const LayerPair> ranking, int layers, int share, double threshold,
                          const MapJudge& judge);

// Accepts, `share` times, the pair of the least score among the next `candidates` ranked pairs.
MapChoice choose_least(std::span<const LayerPair> ranking, int layers, int share, int candidates,
                       const MapJudge& judge);

// Scores every pair alone, then grows the `width` maps of the least scores by a pair at a time: for each map the
// `candidates` pairs that scored least alone, among the `kSources` best sources of each layer.
constexpr int kSources = 3;
MapChoice choose_by_beam(std::span<const LayerPair> ranking, int layers, int share, int width, int candidates,
                         const MapJudge& judge);

}  // namespace lamina
