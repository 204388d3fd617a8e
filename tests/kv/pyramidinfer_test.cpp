// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/pyramidinfer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kv/expect_error.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

// The positions that go on from the middle one of two layers.
std::vector<Pos> survivors(const TokenPolicy& tokens, const std::vector<Pos>& pos, const std::vector<float>& mass,
                           Pos length, int heads = 1) {
  const HeadRows rows{.pos = pos, .mass = mass, .columns = heads};
  const Keep keep = tokens.prune(1, 2, 0, length, rows);
  EXPECT_TRUE(std::ranges::is_sorted(keep));
  std::vector<Pos> result;
  for (const std::uint32_t row : keep) result.push_back(pos.at(row));
  return result;
}

// T19 with R10.
TEST(PyramidInfer, RatioFallsAlongACosine) {
  EXPECT_EQ(pyramid_ratio(0, 32, 0.9), 1);
  EXPECT_NEAR(pyramid_ratio(8, 32, 0.9), .985355, 5e-7);
  EXPECT_NEAR(pyramid_ratio(16, 32, 0.9), .95, 1e-15);
  EXPECT_NEAR(pyramid_ratio(24, 32, 0.9), .914645, 5e-7);
  EXPECT_NEAR(pyramid_ratio(31, 32, 0.9), .9002408, 5e-8);
  for (int layer = 0; layer < 30; ++layer) EXPECT_EQ(pyramid_ratio(layer, 30, 1), 1);
}

// From Python, int() at every layer.
TEST(PyramidInfer, ContextShrinksLayerByLayer) {
  std::vector<Pos> received = {1000};
  for (int layer = 0; layer < 32; ++layer)
    received.push_back(pyramid_context(received.back(), pyramid_ratio(layer, 32, 0.9), 64));
  const std::vector<Pos> first = {1000, 1000, 999, 998, 995, 991, 985, 976, 964, 949, 931, 910};
  EXPECT_TRUE(std::equal(first.begin(), first.end(), received.begin()));
  EXPECT_EQ(received[16], 756);
  EXPECT_EQ(received[32], 194);
}

TEST(PyramidInfer, NeverGoesBelowTheMinimum) {
  EXPECT_EQ(pyramid_context(100, 0.65, 64), 65);
  EXPECT_EQ(pyramid_context(100, 0.64, 64), 100);  // 64 left is not more than 64: none goes
  EXPECT_EQ(pyramid_context(64, 0.9, 64), 64);
  EXPECT_EQ(pyramid_context(0, 0.9, 0), 0);
  EXPECT_EQ(pyramid_context(3, 0.1, 0), 3);
}

// keep=0 at the middle of two layers: half of the context goes on. The recent part is 2 + 1 of 10 rows.
TEST(PyramidInfer, KeepsWhatTheRecentQueriesLookAt) {
  const auto tokens = policy("pyramidinfer(keep=0.0,sinks=0,min=0)");
  const std::vector<Pos> pos = range(0, 10);
  EXPECT_EQ(survivors(*tokens, pos, {0, 1, 5, 2, 9, 2, 0, 7, 7, 7}, 10), (std::vector<Pos>{2, 3, 4, 7, 8, 9}));
  // Sinks come first whatever they got, and are counted.
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,sinks=2,min=0)"), pos, {0, 1, 5, 2, 9, 2, 0, 7, 7, 7}, 10),
            (std::vector<Pos>{0, 1, 4, 7, 8, 9}));
  // All heads are summed: 3 and 3.5 and 4 before 2.
  EXPECT_EQ(survivors(*tokens, pos, {1, 1, 3, 0, 0, 3.5F, 2, 2, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9, 9, 9}, 10, 2),
            (std::vector<Pos>{1, 2, 3, 7, 8, 9}));
  // Rows that have gone below are not there: 5 of 6 before the recent ones, 2 of them go on.
  EXPECT_EQ(survivors(*tokens, {0, 2, 3, 4, 6, 7, 8, 9}, {1, 2, 3, 4, 5, 0, 0, 0}, 10),
            (std::vector<Pos>{4, 6, 7, 8, 9}));
}

// R9: the minimum is at most the rows before the recent part of the whole text.
TEST(PyramidInfer, MinimumIsClampedToTheContext) {
  const std::vector<Pos> pos = range(0, 40);
  const std::vector<float> mass(40, 1.0F);
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0)"), pos, mass, 40).size(), 40U);  // min 31, the context
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=14)"), pos, mass, 40).size(), 15U + 9);
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=15)"), pos, mass, 40).size(), 40U);
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=0,recent=40)"), pos, mass, 40).size(), 40U);
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=0,recent=0)"), pos, mass, 40).size(), 19U + 1);
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=0)"), {0}, {1}, 1).size(), 1U);
  // Of a prompt that follows a text all tokens may be recent: then none goes.
  EXPECT_EQ(survivors(*policy("pyramidinfer(keep=0.0,min=0)"), range(90, 100), mass, 100).size(), 10U);
}

TEST(PyramidInfer, IntervalLeavesLayersOut) {
  const auto tokens = policy("pyramidinfer(keep=0.5,min=0,recent=0,interval=3)");
  const std::vector<Pos> pos = range(0, 41);
  const std::vector<float> mass(41, 1.0F);
  for (int layer = 0; layer < 10; ++layer)
    EXPECT_EQ(tokens->prune(layer, 10, 0, 41, {.pos = pos, .mass = mass}).size() < 41, layer % 3 == 0 && layer > 0);
}

// The last 1 + recent queries, weighing 1 to `distance` in even steps.
TEST(PyramidInfer, ObservesTheRecentQueries) {
  const Observe what = policy("pyramidinfer")->observes({.phase = Phase::kPrompt, .prompt_end = 1000});
  EXPECT_EQ(what.first_query, 799);
  EXPECT_FLOAT_EQ(what.slope * 200, 0.2F);
  EXPECT_EQ(what.columns(3), 1);
  const Observe last = policy("pyramidinfer(recent=0)")->observes({.phase = Phase::kPrompt, .prompt_end = 1000});
  EXPECT_EQ(last.first_query, 999);
  EXPECT_EQ(last.slope, 0);
  EXPECT_FALSE(policy("pyramidinfer")->observes({.phase = Phase::kDecode, .prompt_end = 1000}).any());
}

TEST(PyramidInfer, PrintsItsTermWithoutDefaults) {
  expect_canonical({{"pyramidinfer(keep=0.9,recent=20%,distance=1.2,sinks=4,min=64,interval=1)", "pyramidinfer"},
                    {"pyramidinfer(interval=2,min=8,sinks=0,distance=1,recent=32,keep=0.95)",
                     "pyramidinfer(keep=0.95,recent=32,distance=1,sinks=0,min=8,interval=2)"}});
}

TEST(PyramidInfer, RefusesBadArguments) {
  EXPECT_ERROR(policy("pyramidinfer(keep=1.1)"), "keep of pyramidinfer is \"1.1\"");
  EXPECT_ERROR(policy("pyramidinfer(recent=1.5)"), "recent of pyramidinfer is \"1.5\", expected a fraction");
  EXPECT_ERROR(policy("pyramidinfer(distance=0)"), "distance of pyramidinfer is \"0\"");
  EXPECT_ERROR(policy("pyramidinfer(sinks=-1)"), "sinks of pyramidinfer is \"-1\"");
  EXPECT_ERROR(policy("pyramidinfer(interval=0)"), "interval of pyramidinfer is \"0\"");
  EXPECT_ERROR(policy("pyramidinfer(window=8)"), "pyramidinfer has the unknown argument \"window=\"");
}

}  // namespace
}  // namespace lamina
