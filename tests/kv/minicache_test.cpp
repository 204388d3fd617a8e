// SPDX-License-Identifier: Apache-2.0
// The arithmetic of MiniCache on the numeric cases of its specification (T1 to T7, T9). merge_rows stores float32, so a
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
