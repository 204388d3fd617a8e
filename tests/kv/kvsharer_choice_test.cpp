// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace lamina {
namespace {

using Pairs = std::vector<std::pair<int, int>>;
using Targets = std::vector<int>;

std::vector<LayerPair> ranking(const Pairs& pairs) {
  std::vector<LayerPair> out;
  for (const auto& [layer, source] : pairs) out.push_back({layer, source, 1});
  return out;
}

Pairs names(const std::vector<LayerTrial>& trials) {
  Pairs names;
  for (const LayerTrial& trial : trials) names.emplace_back(trial.layer, trial.source);
  return names;
}

// Scores pairs by a table, 1 where it says nothing; keeps what it was asked.
class Table {
 public:
  explicit Table(std::map<std::pair<int, int>, double> scores) : scores_(std::move(scores)) {}

  MapJudge judge() {
    return {.score =
                [this](const Targets& target) {
                  maps.push_back(target);
                  const auto known = scores_.find(pair_);
                  return known == scores_.end() ? 1.0 : known->second;
                },
            .adopt = [this](const Targets& target) { adopted.push_back(target); },
            .on_trial =
                [this](const LayerTrial& trial, int) {
                  pair_ = {trial.layer, trial.source};
                }};
  }

  std::vector<Targets> maps, adopted;

 private:
  std::map<std::pair<int, int>, double> scores_;
  std::pair<int, int> pair_;
};

// Example (d) of the specification.
TEST(KvSharerChoice, GreedyCollapsesChainsToTheRoot) {
  const auto ranked = ranking({{5, 0},
                               {4, 0},
                               {5, 1},
                               {3, 2},
                               {4, 3},
                               {2, 0},
                               {3, 0},
                               {5, 4},
                               {2, 1},
                               {1, 0},
                               {3, 1},
                               {4, 1},
                               {4, 2},
                               {5, 2},
                               {5, 3}});
  Table table({{{4, 0}, 0.1}});
  const MapChoice choice = choose_greedily(ranked, 6, 4, 0.5, table.judge());
  EXPECT_EQ(names(choice.accepted), (Pairs{{5, 0}, {3, 2}, {4, 3}, {2, 0}}));
  EXPECT_EQ(choice.accepted.back(), (LayerTrial{.layer = 2, .source = 0, .rank = 5, .score = 1}));
  ASSERT_EQ(choice.rejected.size(), 1U);
  EXPECT_EQ(choice.rejected.front(), (LayerTrial{.layer = 4, .source = 0, .rank = 1, .score = 0.1}));
  EXPECT_EQ(choice.target, (Targets{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(choice.tries, 5);
  EXPECT_EQ(table.maps,
            (std::vector<Targets>{
                {0, 1, 2, 3, 4, 0}, {0, 1, 2, 3, 0, 0}, {0, 1, 2, 2, 4, 0}, {0, 1, 2, 2, 2, 0}, {0, 1, 0, 0, 0, 0}}));
  EXPECT_EQ(table.adopted, (std::vector<Targets>{table.maps[0], table.maps[2], table.maps[3], table.maps[4]}));
}

TEST(KvSharerChoice, ASourceThatWasReplacedLeadsToItsRoot) {
  EXPECT_EQ(with_source({0, 1, 0, 3}, 3, 2), (Targets{0, 1, 0, 0}));
  EXPECT_EQ(with_source({0, 1, 2, 2, 2}, 2, 1), (Targets{0, 1, 1, 1, 1}));
  EXPECT_EQ(with_source({0, 0, 2, 3}, 2, 1), (Targets{0, 0, 0, 3}));
}

TEST(KvSharerChoice, TheThresholdItselfIsNotAbove) {
  const auto ranked = ranking({{2, 1}, {2, 0}, {1, 0}});
  Table at({{{2, 1}, 0.5}, {{2, 0}, 0.5 + 1e-12}, {{1, 0}, -1}});
  const MapChoice choice = choose_greedily(ranked, 3, 2, 0.5, at.judge());
  EXPECT_EQ(names(choice.accepted), (Pairs{{2, 0}}));
  EXPECT_EQ(names(choice.rejected), (Pairs{{2, 1}, {1, 0}}));
  EXPECT_EQ(choice.shared(), 1);  // the ranking is exhausted
  EXPECT_EQ(choice.target, (Targets{0, 1, 0}));
}

TEST(KvSharerChoice, LeastTakesTheBestOfTheNextPairs) {
  const auto ranked = ranking({{3, 0}, {3, 1}, {2, 0}, {1, 0}, {2, 1}, {3, 2}});
  Table table({{{3, 0}, 5}, {{3, 1}, 3}, {{2, 0}, 4}, {{1, 0}, 0.1}, {{2, 1}, 0.2}, {{3, 2}, 0.3}});
  const MapChoice choice = choose_least(ranked, 4, 3, 3, table.judge());
  // (3,1) is the best of the first three; then of (2,0) (1,0) (2,1); then of what is left.
  EXPECT_EQ(names(choice.accepted), (Pairs{{3, 1}, {1, 0}, {2, 1}}));
  EXPECT_EQ(choice.target, (Targets{0, 0, 0, 0}));
  EXPECT_EQ(choice.tries, 3 + 3 + 2);
  Table equal({});  // ties go to the pair that ranks first
  EXPECT_EQ(names(choose_least(ranked, 4, 1, 6, equal.judge()).accepted), (Pairs{{3, 0}}));
  const auto few = ranking({{3, 0}, {3, 1}});
  EXPECT_EQ(choose_least(few, 4, 3, 3, table.judge()).shared(), 1);
}

// What a map costs where a pair costs something and two pairs together cost something else.
double cost(const Targets& target) {
  if (target == Targets{0, 1, 2, 2}) return 1;
  if (target == Targets{0, 1, 1, 3}) return 2;
  if (target == Targets{0, 0, 2, 3}) return 3;
  if (target == Targets{0, 0, 2, 2} || target == Targets{0, 1, 1, 1}) return 9;
  if (target == Targets{0, 0, 0, 3}) return 4;
  return 20;
}

TEST(KvSharerChoice, BeamFindsWhatGreedyWalksPast) {
  const auto ranked = ranking({{3, 0}, {3, 1}, {2, 0}, {1, 0}, {2, 1}, {3, 2}});
  const MapJudge judge{.score = cost, .adopt = [](const Targets&) {}};
  const MapChoice narrow = choose_by_beam(ranked, 4, 2, 1, 6, judge);
  EXPECT_EQ(names(narrow.accepted).front(), (std::pair{3, 2}));
  EXPECT_EQ(narrow.accepted.back().score, 9);
  const MapChoice wide = choose_by_beam(ranked, 4, 2, 2, 6, judge);
  EXPECT_EQ(wide.target, (Targets{0, 0, 0, 3}));
  EXPECT_EQ(wide.accepted.back().score, 4);
  EXPECT_EQ(wide.shared(), 2);
}

TEST(KvSharerChoice, BeamTriesAMapOnce) {
  const auto ranked = ranking({{3, 0}, {3, 1}, {2, 0}, {1, 0}, {2, 1}, {3, 2}});
  std::vector<Targets> scored;
  const MapJudge judge{.score =
                           [&](const Targets& target) {
                             scored.push_back(target);
                             return cost(target);
                           },
                       .adopt = [](const Targets&) {}};
  const MapChoice choice = choose_by_beam(ranked, 4, 2, 6, 6, judge);
  EXPECT_EQ(static_cast<std::size_t>(choice.tries), scored.size());
  // Alone, then as the first of two, then two together: each of these rounds has no map twice.
  const std::set<Targets> together(scored.begin() + 12, scored.end());
  EXPECT_EQ(together.size(), scored.size() - 12);
  EXPECT_EQ(choose_by_beam(ranked, 4, 4, 6, 6, judge).shared(), 3);  // layer 0 has nothing to read
}

}  // namespace
}  // namespace lamina
