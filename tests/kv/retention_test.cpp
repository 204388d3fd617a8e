// SPDX-License-Identifier: Apache-2.0
// Which rows MiniCache keeps apart: the numeric case T8 of its specification, and what follows from the rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "kv/layers/minicache.h"

namespace lamina {
namespace {

using Rule = MiniCache::Rule;

std::vector<double> t8_distances() {
  std::vector<double> d;
  for (const double cosine : {-.6, .65, .64, .62, .66, .2, .63, .9}) d.push_back(std::acos(cosine) / std::numbers::pi);
  return d;
}

MiniCache config(Rule rule, double keep) { return {.keep = keep, .rule = rule}; }

std::vector<int> kept(Rule rule, double keep, const std::vector<double>& d) {
  Retention retention;
  const std::vector<bool> apart = retention.prompt(config(rule, keep), d);
  std::vector<int> rows;
  for (std::size_t i = 0; i < apart.size(); ++i)
    if (apart[i]) rows.push_back(static_cast<int>(i));
  return rows;
}

using Rows = std::vector<int>;

TEST(Retain, T8EveryRule) {
  const std::vector<double> d = t8_distances();
  const double rounded[] = {.7048, .2748, .2789, .2871, .2706, .4359, .2831, .1436};
  for (std::size_t i = 0; i < d.size(); ++i) EXPECT_NEAR(d[i], rounded[i], 5e-5);
  EXPECT_EQ(kept(Rule::kLiteral, .05, d), (Rows{7}));
  EXPECT_EQ(kept(Rule::kDistance, .05, d), (Rows{0}));
  EXPECT_EQ(kept(Rule::kCosine, .05, d), (Rows{0}));
  EXPECT_EQ(kept(Rule::kTop, .05, d), (Rows{0}));
  EXPECT_EQ(kept(Rule::kLiteral, .5, d), (Rows{1, 2, 3, 4, 6, 7}));
  EXPECT_EQ(kept(Rule::kDistance, .5, d), (Rows{0, 5}));
  EXPECT_EQ(kept(Rule::kCosine, .5, d), (Rows{0}));
  EXPECT_EQ(kept(Rule::kTop, .25, d), (Rows{0, 5}));
}

// The thresholds that T8 names, seen from both sides by rows decoded after the prompt.
TEST(Retain, T8Thresholds) {
  struct Case {
    Rule rule;
    double keep, apart, merged;  // distances just beyond the threshold and just before
  };
  const auto of_cosine = [](double cosine) { return std::acos(cosine) / std::numbers::pi; };
  const Case cases[] = {{Rule::kDistance, .05, .67678, .67675},
                        {Rule::kDistance, .5, .42421, .42418},
                        {Rule::kCosine, .05, of_cosine(-.52501), of_cosine(-.52499)},
                        {Rule::kCosine, .5, of_cosine(.14999), of_cosine(.15001)},
                        {Rule::kLiteral, .05, .17160, .17175},
                        {Rule::kTop, .25, of_cosine(.2), of_cosine(.200001)}};
  for (const auto& [rule, keep, apart, merged] : cases) {
    Retention retention;
    (void)retention.prompt(config(rule, keep), t8_distances());
    EXPECT_TRUE(retention.decoded(config(rule, keep), apart)) << static_cast<int>(rule) << " " << keep;
    EXPECT_FALSE(retention.decoded(config(rule, keep), merged)) << static_cast<int>(rule) << " " << keep;
  }
}

TEST(Retain, KeepNothingAndAllEqual) {
  const std::vector<double> equal(9, .3), one = {.7};
  for (const Rule rule : {Rule::kDistance, Rule::kCosine, Rule::kLiteral}) {
    EXPECT_EQ(kept(rule, 0, t8_distances()), Rows{});
    for (const double keep : {0.0, .05, .3, 1.0})
      for (const double same : {0.0, .1, .3, 1.0 / 3, .7048, 1.0})
        EXPECT_EQ(kept(rule, keep, std::vector<double>(9, same)), Rows{}) << keep << " " << same;
    EXPECT_EQ(kept(rule, .5, one), Rows{});
    EXPECT_EQ(kept(rule, .5, {}), Rows{});
  }
  EXPECT_EQ(kept(Rule::kTop, 0, t8_distances()), Rows{});
  EXPECT_EQ(kept(Rule::kTop, .05, one), Rows{0});
  EXPECT_EQ(kept(Rule::kTop, .5, {}), Rows{});
}

// keep=1 leaves exactly the extreme row that a strict comparison must leave, whatever the rounding.
TEST(Retain, KeepAllButTheExtreme) {
  std::mt19937 random(6);
  std::uniform_real_distribution<double> uniform;
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> d(5);
    for (double& x : d) x = uniform(random);
    const auto least = static_cast<int>(std::ranges::min_element(d) - d.begin());
    const auto most = static_cast<int>(std::ranges::max_element(d) - d.begin());
    const auto all_but = [](int row) {
      Rows rows = {0, 1, 2, 3, 4};
      rows.erase(rows.begin() + row);
      return rows;
    };
    ASSERT_EQ(kept(Rule::kDistance, 1, d), all_but(least));
    ASSERT_EQ(kept(Rule::kCosine, 1, d), all_but(least));
    ASSERT_EQ(kept(Rule::kLiteral, 1, d), all_but(most));
    ASSERT_EQ(kept(Rule::kTop, 1, d), (Rows{0, 1, 2, 3, 4}));
    const Rows some = kept(Rule::kDistance, .05, d);  // always contains the argmax
    ASSERT_NE(std::ranges::find(some, most), some.end());
  }
}

// R1: ties go to the lower position; counts are rounded up from double.
TEST(Retain, TopBreaksTiesByPosition) {
  EXPECT_EQ(kept(Rule::kTop, .5, {.2, .9, .2, .9, .9, .2}), (Rows{1, 3, 4}));
  EXPECT_EQ(kept(Rule::kTop, .4, {.5, .5, .5, .5, .5}), (Rows{0, 1}));
  EXPECT_EQ(kept(Rule::kTop, .41, {.5, .5, .5, .5, .5}), (Rows{0, 1, 2}));
  for (const int n : {20, 40, 60, 100, 1000})
    EXPECT_EQ(kept(Rule::kTop, .05, std::vector<double>(static_cast<std::size_t>(n), .1)).size(), n / 20) << n;
}

// 1.6 and R11: thresholds are frozen at prompt end.
TEST(Retain, DecodeUsesThePromptsThresholds) {
  const MiniCache top = config(Rule::kTop, .25);
  Retention retention;
  EXPECT_FALSE(retention.decoded(top, 1));  // no prompt yet
  (void)retention.prompt(top, t8_distances());
  const double smallest_kept = t8_distances()[5];
  EXPECT_TRUE(retention.decoded(top, smallest_kept));
  EXPECT_TRUE(retention.decoded(top, 1));
  EXPECT_TRUE(retention.decoded(top, smallest_kept));  // as before: what is decoded moves nothing
  EXPECT_FALSE(retention.decoded(top, std::nextafter(smallest_kept, 0.0)));

  Retention all, none;
  (void)all.prompt(config(Rule::kTop, 1), t8_distances());
  EXPECT_TRUE(all.decoded(config(Rule::kTop, 1), 0));  // below all of the prompt's
  (void)none.prompt(config(Rule::kTop, 0), t8_distances());
  EXPECT_FALSE(none.decoded(config(Rule::kTop, 0), 1));

  const MiniCache b = config(Rule::kDistance, .05);
  Retention strict;
  (void)strict.prompt(b, std::vector<double>{.3, .3});
  EXPECT_FALSE(strict.decoded(b, .3));
  EXPECT_TRUE(strict.decoded(b, .31));
}

TEST(Retain, NoPromptKeepsNothingApart) {
  for (const Rule rule : {Rule::kDistance, Rule::kCosine, Rule::kLiteral, Rule::kTop})
    for (const double d : {0.0, .5, 1.0}) EXPECT_FALSE(Retention().decoded(config(rule, .5), d));
}

// A second prompt is decided by all that the sequence has seen so far; of rule=top by itself.
TEST(Retain, SecondPromptsWidenTheRange) {
  const MiniCache b = config(Rule::kDistance, .5);
  Retention retention;
  EXPECT_EQ(retention.prompt(b, std::vector<double>{.2, .6}), (std::vector{false, true}));  // > .4
  EXPECT_EQ(retention.prompt(b, std::vector<double>{.3, .41, .39}), (std::vector{false, true, false}));
  EXPECT_EQ(retention.prompt(b, std::vector<double>{1, .61, .6}), (std::vector{true, true, false}));  // > .6
  EXPECT_FALSE(retention.decoded(b, .6));
  EXPECT_TRUE(retention.decoded(b, .601));

  const MiniCache top = config(Rule::kTop, .5);
  Retention by_count;
  EXPECT_EQ(by_count.prompt(top, std::vector<double>{.8, .9}), (std::vector{false, true}));
  EXPECT_EQ(by_count.prompt(top, std::vector<double>{.1, .2}), (std::vector{false, true}));
  EXPECT_TRUE(by_count.decoded(top, .2));
}

}  // namespace
}  // namespace lamina
