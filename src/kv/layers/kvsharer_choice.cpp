// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer_choice.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <utility>

#include "kv/layers/layer_map.h"

namespace lamina {
namespace {

bool replaced(const MapChoice& choice, int layer) { return choice.target[static_cast<std::size_t>(layer)] != layer; }

// The pair of this rank on top of the choice.
LayerTrial try_pair(MapChoice& choice, std::span<const LayerPair> ranking, std::size_t rank, const MapJudge& judge) {
  const LayerPair& pair = ranking[rank];
  LayerTrial trial{.layer = pair.layer, .source = pair.source, .rank = static_cast<int>(rank)};
  judge.on_trial(trial, choice.shared());
  trial.score = judge.score(with_source(choice.target, pair.layer, pair.source));
  ++choice.tries;
  return trial;
}

void accept(MapChoice& choice, const LayerTrial& trial) {
  choice.target = with_source(std::move(choice.target), trial.layer, trial.source);
  choice.accepted.push_back(trial);
}

bool scores_less(const LayerTrial& a, const LayerTrial& b) {
  return std::pair(a.score, a.rank) < std::pair(b.score, b.rank);
}

// Every pair alone, the least score first, of each layer its best few.
std::vector<std::size_t> best_alone(std::span<const LayerPair> ranking, MapChoice& none, const MapJudge& judge) {
  std::vector<LayerTrial> trials;
  for (std::size_t rank = 0; rank < ranking.size(); ++rank) trials.push_back(try_pair(none, ranking, rank, judge));
  std::ranges::sort(trials, scores_less);
  std::map<int, int> sources;  // of each layer so far
  std::vector<std::size_t> ranks;
  for (const LayerTrial& trial : trials)
    if (sources[trial.layer]++ < kSources) ranks.push_back(static_cast<std::size_t>(trial.rank));
  return ranks;
}

// The maps with one pair more than `from`; pairs in another order may give the same map, which is then tried once.
std::vector<MapChoice> grow(std::span<const LayerPair> ranking, const MapChoice& from,
                            std::span<const std::size_t> ranks, int candidates, std::vector<std::vector<int>>& seen,
                            const MapJudge& judge) {
  std::vector<MapChoice> grown;
  judge.adopt(from.target);
  int tried = 0;
  for (const std::size_t rank : ranks) {
    if (replaced(from, ranking[rank].layer)) continue;
    if (tried++ == candidates) break;
    std::vector<int> target = with_source(from.target, ranking[rank].layer, ranking[rank].source);
    if (std::ranges::find(seen, target) != seen.end()) continue;
    seen.push_back(std::move(target));
    MapChoice next = from;
    accept(next, try_pair(next, ranking, rank, judge));
    grown.push_back(std::move(next));
  }
  return grown;
}

}  // namespace

std::vector<int> with_source(std::vector<int> target, int layer, int source) {
  assert(source < layer);
  target[static_cast<std::size_t>(layer)] = source;
  for (int& read : target) read = target[static_cast<std::size_t>(read)];  // ascending: one pass is enough
  return target;
}

MapChoice choose_greedily(std::span<const LayerPair> ranking, int layers, int share, double threshold,
                          const MapJudge& judge) {
  MapChoice choice{.target = identity_targets(layers), .accepted = {}, .rejected = {}};
  for (std::size_t rank = 0; rank < ranking.size() && choice.shared() < share; ++rank) {
    if (replaced(choice, ranking[rank].layer)) continue;
    const LayerTrial trial = try_pair(choice, ranking, rank, judge);
    if (trial.score > threshold) {
      accept(choice, trial);
      judge.adopt(choice.target);
    } else {
      choice.rejected.push_back(trial);
    }
  }
  return choice;
}

MapChoice choose_least(std::span<const LayerPair> ranking, int layers, int share, int candidates,
                       const MapJudge& judge) {
  MapChoice choice{.target = identity_targets(layers), .accepted = {}, .rejected = {}};
  while (choice.shared() < share) {
    std::vector<LayerTrial> trials;
    for (std::size_t rank = 0; rank < ranking.size() && std::ssize(trials) < candidates; ++rank)
      if (!replaced(choice, ranking[rank].layer)) trials.push_back(try_pair(choice, ranking, rank, judge));
    if (trials.empty()) break;
    accept(choice, *std::ranges::min_element(trials, scores_less));
    judge.adopt(choice.target);
  }
  return choice;
}

MapChoice choose_by_beam(std::span<const LayerPair> ranking, int layers, int share, int width, int candidates,
                         const MapJudge& judge) {
  std::vector<MapChoice> beam{{.target = identity_targets(layers), .accepted = {}, .rejected = {}}};
  int tries = 0;
  const std::vector<std::size_t> ranks = best_alone(ranking, beam.front(), judge);
  tries += std::exchange(beam.front().tries, 0);
  for (int shared = 0; shared < share; ++shared) {
    std::vector<MapChoice> next;
    std::vector<std::vector<int>> seen;
    for (const MapChoice& from : beam) {
      auto grown = grow(ranking, from, ranks, candidates, seen, judge);
      std::ranges::move(grown, std::back_inserter(next));
    }
    if (next.empty()) break;
    tries += static_cast<int>(next.size());
    std::ranges::stable_sort(next, {}, [](const MapChoice& c) { return c.accepted.back().score; });
    next.resize(std::min(next.size(), static_cast<std::size_t>(width)));
    beam = std::move(next);
  }
  beam.front().tries = tries;
  return std::move(beam.front());
}

}  // namespace lamina
