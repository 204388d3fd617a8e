// SPDX-License-Identifier: Apache-2.0
// The arithmetic of MiniCache on the numeric cases of its specification (T1 to T9). merge_rows stores float32, so a
// number near 1 is off by up to 6e-8, and so is the norm of what it stores: hence 2e-7 where nothing else is said.
#include "kv/layers/minicache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>

#include "base/half.h"

namespace lamina {
namespace {

using Row = std::vector<float>;
using Rule = MiniCache::Rule;

constexpr double kFloat = 2e-7;

struct Merged {
  Row e;
  Gains gain;
};

Merged merge(const Row& lower, const Row& deeper, double t, MiniCache::Merge how = MiniCache::Merge::kSlerp) {
  Merged result{.e = Row(lower.size(), NAN), .gain = {}};
  result.gain = merge_rows(how, t, lower, deeper, result.e);
  return result;
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}
double length(const Row& x) { return std::sqrt(dot(x, x)); }
double angle(const Row& a, const Row& b) { return std::acos(std::clamp(dot(a, b) / length(a) / length(b), -1.0, 1.0)); }

Row restored(const Merged& merged, float gain) {
  Row x = merged.e;
  for (float& value : x) value *= gain;
  return x;
}
double relative_error(const Row& x, const Row& truth) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += std::pow(double{x[i]} - truth[i], 2);
  return std::sqrt(sum) / length(truth);
}

void expect_near(const Row& found, const std::vector<double>& expected, double tolerance = kFloat) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance) << i;
}

// Two rows of these lengths with cos(angle) = cosine, in random directions.
std::pair<Row, Row> rows_at(double cosine, double p_length, double c_length, int n, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<double> u(static_cast<std::size_t>(n)), w(u.size());
  for (auto* x : {&u, &w})
    for (double& value : *x) value = normal(random);
  const auto product = [](const auto& a, const auto& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  const double u_length = std::sqrt(product(u, u));
  for (double& value : u) value /= u_length;
  const double along = product(u, w);
  for (std::size_t i = 0; i < u.size(); ++i) w[i] -= along * u[i];
  const double w_length = std::sqrt(product(w, w));
  const double sine = std::sqrt(1 - cosine * cosine);
  std::pair<Row, Row> rows{Row(u.size()), Row(u.size())};
  for (std::size_t i = 0; i < u.size(); ++i) {
    rows.first[i] = static_cast<float>(p_length * u[i]);
    rows.second[i] = static_cast<float>(c_length * (cosine * u[i] + sine * w[i] / w_length));
  }
  return rows;
}

TEST(MergeRows, T1SlerpByHand) {
  const Row p = {3, 4, 0}, c = {0, 5, 12};
  EXPECT_NEAR(angular_distance(p, c), .4004432603, 1e-10);
  EXPECT_NEAR(angular_distance(p, c) * std::numbers::pi, 1.2580296049, 1e-10);
  const Merged m = merge(p, c, .6);
  EXPECT_EQ(m.gain.lower, 5);
  EXPECT_EQ(m.gain.deeper, 13);
  expect_near(m.e, {.3040980705, .6824219673, .6646988958});
  EXPECT_NEAR(length(m.e), 1, kFloat);
  expect_near(restored(m, m.gain.lower), {1.5204903525, 3.4121098363, 3.3234944792}, 1e-6);
  expect_near(restored(m, m.gain.deeper), {3.9532749164, 8.8714855743, 8.6410856459}, 2e-6);
  EXPECT_NEAR(angle(m.e, p), .7548177629, 1e-6);
  EXPECT_NEAR(angle(m.e, c), .5032118419, 1e-6);
  EXPECT_NEAR(relative_error(restored(m, m.gain.lower), p), .7370258936, 1e-6);
  EXPECT_NEAR(relative_error(restored(m, m.gain.deeper), c), .4979192727, 1e-6);
}

TEST(MergeRows, T2TCountsFromTheLowerLayer) {
  const Row p = {2, 0}, c = {0, 3};
  const Merged m = merge(p, c, .6);
  expect_near(m.e, {.5877852523, .8090169944});
  EXPECT_EQ(m.gain.lower, 2);
  EXPECT_EQ(m.gain.deeper, 3);
  expect_near(merge(c, p, .6).e, {.8090169944, .5877852523});
  expect_near(merge(p, c, 0).e, {1, 0});
  expect_near(merge(p, c, 1).e, {0, 1});
}

TEST(MergeRows, T3TheMiddleIsTheNormalisedMean) {
  expect_near(merge({1, 0}, {.6F, .8F}, .5).e, {.8944271910, .4472135955});
}

// What vector=token and vector=head make of two heads of width 2.
TEST(MergeRows, T4Granularity) {
  const Row p = {1, 0, 0, 2}, c = {0, 1, 0, 2};
  EXPECT_NEAR(angular_distance(p, c) * std::numbers::pi, .6435011088, 1e-10);
  const Merged whole = merge(p, c, .6);
  expect_near(restored(whole, whole.gain.lower), {.424279, .627632, 0, 2.103822}, 1e-6);
  expect_near(restored(whole, whole.gain.deeper), {.424279, .627632, 0, 2.103822}, 1e-6);
  EXPECT_NEAR(angular_distance(Row{1, 0}, Row{0, 1}), .5, 1e-15);
  EXPECT_EQ(angular_distance(Row{0, 2}, Row{0, 2}), 0);
  expect_near(merge({1, 0}, {0, 1}, .6).e, {.587785, .809017}, 1e-6);
  expect_near(restored(merge({0, 2}, {0, 2}, .6), 2), {0, 2});
}

// The specification's 1e-12 is for rows of doubles; float32 rows carry 6e-8 in, and the weights of slerp at these
// angles are below 2.
TEST(MergeRows, T5RopeBeforeIsRopeAfter) {
  std::mt19937 random(1);
  const auto turned = [](const Row& x) {
    Row y(x.size());
    for (std::size_t i = 0; i + 1 < x.size(); i += 2) {
      const double a = 37 * std::pow(1e4, -static_cast<double>(i) / static_cast<double>(x.size()));
      y[i] = static_cast<float>(x[i] * std::cos(a) - x[i + 1] * std::sin(a));
      y[i + 1] = static_cast<float>(x[i] * std::sin(a) + x[i + 1] * std::cos(a));
    }
    return y;
  };
  for (const double cosine : {-.6, 0.0, .65, .99}) {
    const auto [p, c] = rows_at(cosine, 3, 7, 64, random);
    EXPECT_NEAR(angular_distance(turned(p), turned(c)), angular_distance(p, c), 1e-7);
    const Merged before = merge(turned(p), turned(c), .6), after = merge(p, c, .6);
    EXPECT_LT(relative_error(before.e, turned(after.e)), 1e-6) << cosine;
    EXPECT_NEAR(before.gain.lower, after.gain.lower, 1e-6);
    EXPECT_NEAR(before.gain.deeper, after.gain.deeper, 2e-6);
  }
}

TEST(MergeRows, T6IdenticalRows) {
  for (const double t : {0.0, .3, .6, 1.0}) {
    const Row p = {3, -4, 0, 12};
    const Merged same = merge(p, p, t);
    expect_near(same.e, {3.0 / 13, -4.0 / 13, 0, 12.0 / 13});
    EXPECT_EQ(same.gain.lower, 13);
    EXPECT_EQ(same.gain.deeper, 13);
    expect_near(merge({1, 2, 2}, {10, 20, 20}, t).e, {1.0 / 3, 2.0 / 3, 2.0 / 3});  // parallel
  }
  EXPECT_EQ(angular_distance(Row{1, 2, 3}, Row{1, 2, 3}), 0);
}

// Across the fallback's limit, sin(angle) = 1e-4, nothing jumps.
TEST(MergeRows, T6NearlyParallelRows) {
  for (const double a : {1e-7, 1e-5, 9.9e-5, 1.01e-4, 1e-3}) {
    const Row p = {1, 0}, c = {static_cast<float>(5 * std::cos(a)), static_cast<float>(5 * std::sin(a))};
    const double found = angular_distance(p, c) * std::numbers::pi;  // of the rows as float32 holds them
    EXPECT_NEAR(found, a, 1e-7) << a;
    const Merged m = merge(p, c, .6);
    EXPECT_NEAR(length(m.e), 1, kFloat) << a;
    EXPECT_NEAR(std::atan2(m.e[1], m.e[0]), .6 * a, 1e-7) << a;
  }
}

TEST(MergeRows, T6OppositeRows) {
  const Row p = {3, 4, 0}, c = {-6, -8, 0};
  EXPECT_EQ(angular_distance(p, c), 1);
  for (const double t : {0.0, .3, .499, .5, .6, 1.0}) {
    const Merged m = merge(p, c, t);
    expect_near(m.e, t >= .5 ? std::vector{-.6, -.8, 0.} : std::vector{.6, .8, 0.});
    EXPECT_EQ(m.gain.lower, 5);
    EXPECT_EQ(m.gain.deeper, 10);
  }
  // Not quite: coefficients grow to 1e4 and cancel, in double.
  const Row almost = {-6, -8, .01F};
  for (const double t : {.4, .6}) {
    const Merged m = merge(p, almost, t);
    EXPECT_NEAR(length(m.e), 1, kFloat);
    EXPECT_NEAR(angle(m.e, p), t * angle(p, almost), 1e-4);
  }
}

TEST(MergeRows, T6ZeroRows) {
  const Row zero = {0, 0}, x = {6, 8};
  for (const double t : {0.0, .5, 1.0}) {
    const Merged lower = merge(zero, x, t), deeper = merge(x, zero, t), both = merge(zero, zero, t);
    expect_near(lower.e, {.6, .8});
    expect_near(deeper.e, {.6, .8});
    EXPECT_EQ(lower.gain.lower, 0);
    EXPECT_EQ(lower.gain.deeper, 10);
    EXPECT_EQ(deeper.gain.lower, 10);
    EXPECT_EQ(deeper.gain.deeper, 0);
    EXPECT_EQ(restored(lower, lower.gain.lower), zero);
    EXPECT_EQ(both.e, zero);
    EXPECT_EQ(both.gain.lower, 0);
    EXPECT_EQ(both.gain.deeper, 0);
  }
  EXPECT_EQ(angular_distance(zero, x), 0);
  EXPECT_EQ(angular_distance(x, zero), 0);
  EXPECT_EQ(angular_distance(zero, zero), 0);
}

TEST(MergeRows, T6RowsOfHalvesAndExtremes) {
  std::mt19937 random(2);
  for (const float scale : {1e-20F, 6e-8F, 1.0F, 300.0F, 1e18F}) {
    auto [p, c] = rows_at(.3, 1, 1, 48, random);
    for (auto* x : {&p, &c})
      for (float& value : *x) value = f32_from_f16(f16_from_f32(value)) * scale;
    const Merged m = merge(p, c, .6);
    EXPECT_NEAR(length(m.e), 1, kFloat) << scale;
    EXPECT_NEAR(m.gain.lower / length(p), 1, kFloat) << scale;
    EXPECT_NEAR(m.gain.deeper / length(c), 1, kFloat) << scale;
  }
}

TEST(MergeRows, T7NormsSurvive) {
  std::mt19937 random(3);
  for (const double cosine : {-.9, -.2, .2, .65, .999})
    for (const double t : {0.0, .3, .6, 1.0}) {
      const auto [p, c] = rows_at(cosine, 2.5, 9, 192, random);
      const Merged m = merge(p, c, t);
      EXPECT_NEAR(length(restored(m, m.gain.lower)) / length(p), 1, kFloat);
      EXPECT_NEAR(length(restored(m, m.gain.deeper)) / length(c), 1, kFloat);
      EXPECT_NEAR(angle(m.e, p) / angle(c, p), t, 1e-5);
    }
}

TEST(MergeRows, T9TypicalErrors) {
  std::mt19937 random(4);
  const double cases[][3] = {{.65, .512158, .343572}, {-.6, 1.232999, .857050}, {0, .907981, .618034}};
  for (const auto& [cosine, lower, deeper] : cases)
    for (const int n : {3, 192, 4096}) {
      const auto [p, c] = rows_at(cosine, 4, 11, n, random);
      const Merged m = merge(p, c, .6);
      EXPECT_NEAR(relative_error(restored(m, m.gain.lower), p), lower, 2e-6);
      EXPECT_NEAR(relative_error(restored(m, m.gain.deeper), c), deeper, 2e-6);
    }
}

TEST(MergeRows, MeanAndMaxNormStoreNoMagnitudes) {
  const Merged mean = merge({2, 0}, {0, 4}, .6, MiniCache::Merge::kMean);
  expect_near(mean.e, {1, 2}, 0);
  EXPECT_EQ(mean.gain.lower, 1);
  EXPECT_EQ(mean.gain.deeper, 1);
  const Merged longest = merge({2, 0}, {0, 3}, .6, MiniCache::Merge::kMaxNorm);
  expect_near(longest.e, {3 * .5877852523, 3 * .8090169944}, 1e-6);
  EXPECT_EQ(longest.gain.lower, 1);
  EXPECT_EQ(longest.gain.deeper, 1);
  EXPECT_EQ(MiniCache{.merge = MiniCache::Merge::kMean}.gains(8), 0);
  EXPECT_EQ(MiniCache{.merge = MiniCache::Merge::kMaxNorm}.gains(8), 0);
  EXPECT_EQ(MiniCache{}.gains(8), 2);
  EXPECT_EQ((MiniCache{.by_head = true}.gains(8)), 16);
}

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

TEST(NeighbourPairs, StartSnapsUpwards) {
  using Pairs = std::vector<std::pair<int, int>>;
  const auto pairs = [](std::vector<Pos> windows, int start, bool across) {
    KvShape shape{.layers = static_cast<int>(windows.size()), .kv_heads = 1, .head_dim = 16};
    shape.windows = std::move(windows);
    return neighbour_pairs(shape, start, across);
  };
  EXPECT_EQ(pairs({0, 0, 0, 0, 0, 0}, 3, false), (Pairs{{3, 4}}));  // the last one is left over
  EXPECT_EQ(pairs({0, 0, 0, 0, 0, 0}, 2, false), (Pairs{{2, 3}, {4, 5}}));
  EXPECT_EQ(pairs({0, 0}, 2, false), Pairs{});
  EXPECT_EQ(pairs({0}, 0, false), Pairs{});
  // Gemma: five layers with a window, then one without.
  EXPECT_EQ(pairs({8, 8, 8, 8, 8, 0, 8, 8}, 0, false), (Pairs{{0, 1}, {2, 3}, {6, 7}}));
  EXPECT_EQ(pairs({8, 8, 8, 8, 8, 0, 8, 8}, 1, false), (Pairs{{1, 2}, {3, 4}, {6, 7}}));
  EXPECT_EQ(pairs({8, 8, 8, 8, 8, 0, 8, 8}, 0, true), (Pairs{{0, 1}, {2, 3}, {4, 5}, {6, 7}}));
  KvShape llama{.layers = 32, .kv_heads = 1, .head_dim = 16};
  const Pairs published = neighbour_pairs(llama, 16, false);
  ASSERT_EQ(published.size(), 8U);
  EXPECT_EQ(published.front(), std::pair(16, 17));
  EXPECT_EQ(published.back(), std::pair(30, 31));
}

}  // namespace
}  // namespace lamina
