// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <ostream>
#include <random>
#include <string>

#include "kv/layers/layer_map.h"

namespace lamina {

// For messages of failed tests.
void PrintTo(const Pass& pass, std::ostream* out) {
  *out << '(' << pass.first << ',' << pass.last << ')' << (pass.iterated ? "x9" : "x1");
}

namespace {

std::vector<int> targets(const char* text) {
  std::vector<int> target;
  for (const LayerType& type : parse_layer_types(text)) target.push_back(type.target);
  return target;
}

constexpr bool kOnce = false, kIterated = true;

struct Planned {
  const char* map;
  std::vector<Pass> plan;
};

// The plans that the authors' code makes of these maps.
TEST(Passes, PlansAsThePublishedCodeDoes) {
  const std::vector<Planned> table = {
      {"0_6_6_6_6_6_6_7", {{0, 1, kOnce}, {1, 7, kIterated}, {7, 8, kOnce}}},
      {"1_2s_0", {{0, 3, kIterated}}},
      {"7_7_7_7_7_7_7_7", {{0, 8, kIterated}}},
      {"0_3_3_3_6_6_6_7", {{0, 1, kOnce}, {1, 4, kIterated}, {4, 7, kIterated}, {7, 8, kOnce}}},
      {"1_1_3_3_5_5_7_7", {{0, 2, kIterated}, {2, 4, kIterated}, {4, 6, kIterated}, {6, 8, kIterated}}},
      {"0_0_3_3_3_7_7_7", {{0, 2, kOnce}, {2, 4, kIterated}, {4, 5, kOnce}, {5, 8, kIterated}}},
      {"0_5_5_2_7_5_6_7", {{0, 1, kOnce}, {1, 8, kIterated}}},
      {"2_0_4_3_4_5", {{0, 5, kIterated}, {5, 6, kOnce}}},
      {"0_4_4_3_4_2_6_7", {{0, 1, kOnce}, {1, 5, kIterated}, {5, 8, kOnce}}},
      {"1_3_2_3_5_5", {{0, 4, kIterated}, {4, 6, kIterated}}},
      {"0_0_2_2", {{0, 4, kOnce}}},
  };
  for (const Planned& row : table) {
    EXPECT_EQ(plan_passes(targets(row.map)), row.plan) << row.map;
    EXPECT_EQ(cyclic(targets(row.map)), std::ranges::any_of(row.plan, &Pass::iterated)) << row.map;
  }
}

TEST(Passes, AnOrdinaryModelIsOnePass) {
  EXPECT_EQ(plan_passes(targets("0_1_2_3")), (std::vector<Pass>{{0, 4, kOnce}}));
  EXPECT_EQ(plan_passes(targets("0")), (std::vector<Pass>{{0, 1, kOnce}}));
  EXPECT_FALSE(cyclic(targets("0_0_1_2")));
  EXPECT_TRUE(cyclic(targets("0_2_2_2")));
}

// The highest layer that layers [first, last) read.
int highest_read(const std::vector<int>& target, int first, int last) {
  return *std::max_element(target.begin() + first, target.begin() + last);
}

bool reads_upward(const std::vector<int>& target, int first, int last) {
  for (int layer = first; layer < last; ++layer)
    if (target[static_cast<std::size_t>(layer)] > layer) return true;
  return false;
}

// What the plan promises, said without the algorithm: these sentences have one solution.
void check_plan(const std::vector<int>& target) {
  const int layers = static_cast<int>(target.size());
  const std::vector<Pass> plan = plan_passes(target);
  SCOPED_TRACE(testing::PrintToString(target) + " -> " + testing::PrintToString(plan));
  int next = 0;
  bool after_single = false;
  for (const Pass& pass : plan) {
    ASSERT_EQ(pass.first, next) << "the passes are in order and leave out no layer";
    ASSERT_GT(pass.last, pass.first);
    ASSERT_LE(pass.last, layers);
    ASSERT_EQ(reads_upward(target, pass.first, pass.last), pass.iterated);
    if (pass.iterated) {
      ASSERT_EQ(reads_upward(target, pass.first, pass.first + 1), true) << "starts with an upward reader";
      ASSERT_LT(highest_read(target, pass.first, pass.last), pass.last) << "contains all that it reads upwards";
      for (int cut = pass.first + 1; cut < pass.last; ++cut)
        ASSERT_GE(highest_read(target, pass.first, cut), cut) << "could have ended at " << cut;
    }
    ASSERT_FALSE(after_single && !pass.iterated) << "two passes that could be one";
    after_single = !pass.iterated;
    next = pass.last;
  }
  ASSERT_EQ(next, layers);
  ASSERT_EQ(cyclic(target), reads_upward(target, 0, layers));
}

TEST(Passes, HoldForEveryMapOfUpToFiveLayers) {
  for (int layers = 1; layers <= 5; ++layers) {
    std::vector<int> target(static_cast<std::size_t>(layers));
    for (;;) {
      ASSERT_NO_FATAL_FAILURE(check_plan(target));
      auto digit = std::ranges::find_if(target, [&](int read) { return read + 1 < layers; });
      if (digit == target.end()) break;
      ++*digit;
      std::fill(target.begin(), digit, 0);
    }
  }
}

TEST(Passes, HoldForRandomMapsOfManyLayers) {
  std::mt19937 random(20);
  for (int round = 0; round < 500; ++round) {
    const int layers = std::uniform_int_distribution(6, 80)(random);
    const int reach = std::uniform_int_distribution(1, 8)(random);  // short, so that there are several groups
    std::vector<int> target(static_cast<std::size_t>(layers));
    std::iota(target.begin(), target.end(), 0);
    for (int& read : target)
      if (random() % 3 == 0)
        read = std::clamp(read + std::uniform_int_distribution(-reach, reach)(random), 0, layers - 1);
    ASSERT_NO_FATAL_FAILURE(check_plan(target));
  }
}

}  // namespace
}  // namespace lamina
