// SPDX-License-Identifier: Apache-2.0
// Decisions on made-up measurements.
#include "engine/tune_choice.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lamina {
namespace {

using Values = std::vector<double>;

constexpr Axes kBits = {.bits = true}, kTokens = {.tokens = true}, kBoth = {.tokens = true, .bits = true};

Alternative finalist(const Values& selection, const Values& held_out, bool single = false, double top1 = 0.9) {
  return {.candidate = {.spec = nullptr, .axes = single ? kBits : kBoth},
          .selection = {.kl = selection, .top1 = Values(selection.size(), 0.99)},
          .held_out = {.kl = held_out, .top1 = Values(held_out.size(), top1)}};
}

TEST(Estimate, MeanAndItsError) {
  const Estimate e = estimate(Values{1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(e.mean, 3);
  EXPECT_NEAR(e.error, std::sqrt((4 + 1 + 0 + 9) / 3.0 / 4), 1e-12);
  EXPECT_TRUE(std::isnan(estimate(Values{5}).error));
}

// Windows differ by far more than the specs do: in pairs the difference is plain.
TEST(Difference, IsTakenWindowByWindow) {
  const Values a = {1.01, 2.02, 5.01, 9.02}, b = {1, 2, 5, 9};
  EXPECT_NEAR(difference(a, b).mean, 0.015, 1e-12);
  EXPECT_LT(difference(a, b).error, 0.003);
  EXPECT_GT(estimate(a).error, 1);
}

TEST(Decide, TheSelectionsChoiceStaysWhereHeldOutWindowsAgree) {
  const std::vector<Alternative> two = {finalist({0.2, 0.3}, {0.2, 0.3}, true), finalist({0.1, 0.1}, {0.1, 0.1})};
  const Decision d = decide(two, {}, false);
  EXPECT_EQ(d.chosen, 1U);
  EXPECT_EQ(d.selected, 1U);
  EXPECT_TRUE(d.meets_floor);
  EXPECT_EQ(d.reasons.front(), "Held-out windows confirm the selection's choice.");
}

TEST(Decide, AllWindowsDecideWhereHeldOutOnesDisagree) {
  // Both of several axes. The first was lucky on the selection's windows.
  const std::vector<Alternative> lucky = {finalist({0.10, 0.10}, {0.30, 0.32, 0.34}),
                                          finalist({0.12, 0.12}, {0.2, 0.21, 0.2})};
  EXPECT_EQ(decide(lucky, {}, false).selected, 0U);
  EXPECT_EQ(decide(lucky, {}, false).chosen, 1U);
  // The other is better on the held-out windows by less than it was worse on the selection's.
  const std::vector<Alternative> close = {finalist({0.10, 0.10}, {0.21, 0.2, 0.2}),
                                          finalist({0.2, 0.2}, {0.2, 0.2, 0.2})};
  EXPECT_EQ(decide(close, {}, false).chosen, 0U);
  EXPECT_NE(decide(close, {}, false).reasons.front().find("it stays"), std::string::npos);
}

TEST(Decide, SeveralAxesMustBeCertainlyBetterThanOne) {
  const Alternative one = finalist({0.2, 0.2}, {0.2, 0.2}, true);
  EXPECT_EQ(decide(std::vector{finalist({0.19, 0.19}, {0.19, 0.18}), one}, {}, false).chosen, 0U);
  // Better on average, but by one window only.
  const Decision d = decide(std::vector{finalist({0.1, 0.21}, {0.21, 0.2}), one}, {}, false);
  EXPECT_EQ(d.chosen, 1U);
  EXPECT_NE(d.reasons.back().find("no certain gain"), std::string::npos);
}

TEST(Decide, OfThoseThatMeetTheFloor) {
  const std::vector<Alternative> all = {finalist({0.1, 0.1}, {0.1, 0.1}, true, 0.90),
                                        finalist({0.2, 0.2}, {0.2, 0.2}, true, 0.96),
                                        finalist({0.3, 0.3}, {0.3, 0.3}, true, 0.97)};
  EXPECT_EQ(decide(all, {.top1 = 0.8}, false).chosen, 0U);
  EXPECT_EQ(decide(all, {.top1 = 0.95}, false).chosen, 1U);
  EXPECT_TRUE(decide(all, {.top1 = 0.97}, false).meets_floor);
  EXPECT_TRUE(decide(all, {.kl = 0.1}, false).meets_floor);
  EXPECT_FALSE(decide(all, {.kl = 0.09}, false).meets_floor);
}

TEST(Decide, TheClosestWhereNoneMeetsTheFloor) {
  const std::vector<Alternative> all = {finalist({0.1, 0.1}, {0.1, 0.2}, true, 0.90),
                                        finalist({0.3, 0.3}, {0.3, 0.3}, false, 0.97),
                                        finalist({0.2, 0.2}, {0.2, 0.2}, true, 0.97)};
  const Decision top1 = decide(all, {.top1 = 0.99}, true);
  EXPECT_FALSE(top1.meets_floor);
  EXPECT_EQ(top1.chosen, 2U);  // of equal top-1 the lower KL
  EXPECT_EQ(top1.selected, 0U);
  ASSERT_EQ(top1.reasons.size(), 1U);
  EXPECT_EQ(top1.reasons.front(),
            "None of the 3 specs verified on held-out windows meets the floor; the one that is marked as chosen comes "
            "closest.");
  EXPECT_EQ(decide(all, {.kl = 0.05}, false).chosen, 0U);
}

TEST(Decide, SaysWhereTheFloorIsWithinAStandardError) {
  Alternative one = finalist({0.1, 0.1}, {0.2, 0.3}, true);
  one.held_out.top1 = {0.9, 0.96};
  const auto last = [&](const Floor& floor) { return decide(std::vector{one}, floor, false).reasons.back(); };
  EXPECT_EQ(
      last({.top1 = 0.92}),
      "It meets the floor by less than a standard error (top-1 0.9300 +- 0.0300, asked for at least 0.92): another "
      "text may tell otherwise.");
  EXPECT_EQ(
      last({.kl = 0.21}),
      "It misses the floor by less than a standard error (KL 0.25000 +- 0.05000, asked for at most 0.21): another "
      "text may tell otherwise.");
  for (const Floor& sure : {Floor{}, Floor{.top1 = 0.8}, Floor{.top1 = 0.99}, Floor{.kl = 0.31}, Floor{.kl = 0.1}})
    EXPECT_EQ(last(sure).find("standard error"), std::string::npos) << last(sure);
  one.held_out.kl = {0.1, HUGE_VAL};
  EXPECT_EQ(last({.kl = 0.2}).find("standard error"), std::string::npos);
}

TEST(Decide, TheFasterOfEquallyGood) {
  std::vector<Alternative> all = {finalist({0.1, 0.1}, {0.1, 0.1}), finalist({0.1, 0.11}, {0.1, 0.1}),
                                  finalist({0.3, 0.3}, {0.3, 0.3})};
  all[0].tokens_per_second = 100;
  all[1].tokens_per_second = 150;
  all[2].tokens_per_second = 900;
  EXPECT_EQ(decide(all, {}, false).chosen, 0U);
  EXPECT_EQ(decide(all, {}, true).chosen, 1U);
}

Values kept_of(std::size_t count, std::size_t of_each, const Floor& floor = {}) {
  std::vector<Alternative> all, left;
  const std::pair<double, Axes> made[] = {{5, kBoth}, {1, kBoth}, {2, kTokens}, {9, kBits}, {3, kBoth}, {8, kBits}};
  for (const auto& [kl, axes] : made)
    all.push_back(
        {.candidate = {.spec = nullptr, .axes = axes}, .selection = {.kl = {kl}, .top1 = {kl == 3 ? 0.9 : 0}}});
  keep_lowest(all, count, of_each, floor, left);
  EXPECT_EQ(all.size() + left.size(), std::size(made));
  Values kl;
  for (const Alternative& one : all) kl.push_back(one.selection.kl.front());
  return kl;
}

TEST(KeepLowest, TheBestOfAllAndOfEachAxis) {
  EXPECT_EQ(kept_of(2, 0), (Values{1, 2}));
  EXPECT_EQ(kept_of(2, 1), (Values{1, 2, 8}));
  EXPECT_EQ(kept_of(0, 2), (Values{2, 9, 8}));
  EXPECT_EQ(kept_of(9, 9).size(), 6U);
}

TEST(KeepLowest, TheHighestTop1WhereTheFloorIsOne) {
  EXPECT_EQ(kept_of(2, 1, {.kl = 0.1}), (Values{1, 2, 8}));
  EXPECT_EQ(kept_of(2, 1, {.top1 = 0.9}), (Values{1, 2, 3, 8}));
  EXPECT_EQ(kept_of(2, 9, {.top1 = 0.9}).size(), 6U);
}

}  // namespace
}  // namespace lamina
