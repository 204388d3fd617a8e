// SPDX-License-Identifier: Apache-2.0
// FastGen at the end of a prompt, on attention maps by hand and at random.
#include "kv/expect_error.h"
#include "kv/fastgen_head.h"

namespace lamina::testing {
namespace {

std::vector<double> recoveries(std::string_view text, const Classes& classes = kClasses) {
  const FastGenPolicy tokens = policy(text);
  return tokens.recoveries(Head::prompt(tokens, {kMap}, classes).rows(), static_cast<Pos>(classes.size()));
}

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;  // masses are float32
}

std::size_t choice(std::string_view text) { return policy(text).choose(recoveries(text)); }

Positions kept(std::string_view text, const Classes& classes = kClasses) {
  const FastGenPolicy tokens = policy(text);
  Head head = Head::prompt(tokens, {kMap}, classes);
  head.select(tokens, prompt_end(static_cast<Pos>(classes.size())));
  return head.held();
}

TEST(FastGen, RecoversWhatTheSpecificationSays) {
  expect_near(recoveries("fastgen"), {.683333333, .816666667, .916666667, .975});
}

TEST(FastGen, TheCheapestPolicyThatRecoversEnough) {
  EXPECT_EQ(choice("fastgen(recovery=0.65)"), 0U);
  EXPECT_EQ(choice("fastgen(recovery=0.80)"), 1U);
  EXPECT_EQ(choice("fastgen(recovery=0.90)"), 2U);
  EXPECT_EQ(choice("fastgen"), 3U);
  EXPECT_EQ(choice("fastgen(recovery=0.98)"), 4U);   // full
  EXPECT_EQ(choice("fastgen(recovery=0.975)"), 3U);  // exactly what is recovered
  EXPECT_EQ(choice("fastgen(recovery=0.97501)"), 4U);
  EXPECT_EQ(choice("fastgen(recovery=0)"), 0U);
}

// Mean distances .633 .367 .167 .05 0.
TEST(FastGen, TheSameByTheDistanceOfAttention) {
  EXPECT_EQ(choice("fastgen(criterion=l1)"), 3U);  // .05 <= .05
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.9501)"), 4U);
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.90)"), 3U);
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.83)"), 2U);
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.80)"), 2U);
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.63)"), 1U);
  EXPECT_EQ(choice("fastgen(criterion=l1,recovery=0.36)"), 0U);
}

TEST(FastGen, KeepsWhatThePolicyNames) {
  EXPECT_EQ(kept("fastgen(recovery=0.65)"), (Positions{0}));
  EXPECT_EQ(kept("fastgen(recovery=0.80)"), (Positions{0, 2, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0.90)"), (Positions{0, 1, 2, 5}));  // 1 before 2 of equal sums
  EXPECT_EQ(kept("fastgen(recovery=0.95)"), (Positions{0, 1, 2, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0.95,recent=0.5)"), (Positions{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0.98)"), (Positions{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0.90,frequent=0.5)"), (Positions{0, 1, 2, 5}));      // 3 of all rows: 0, 1, 2
  EXPECT_EQ(kept("fastgen(recovery=0.90,frequent=0.51)"), (Positions{0, 1, 2, 3, 5}));  // ceil(3.06)
}

TEST(FastGen, FullAloneRecoversEverything) {
  const FastGenPolicy tokens = policy("fastgen(recovery=1.0)");
  EXPECT_EQ(tokens.choose({1, 1, 1, 1}), 4U);
  const Classes all_special(6, kSpecial);
  EXPECT_EQ(kept("fastgen(recovery=1.0)", all_special).size(), 6U);
  EXPECT_FALSE(tokens.observes({.length = 6, .prompt_end = 6}).any());
}

TEST(FastGen, OrderMayLeavePoliciesOut) {
  expect_near(recoveries("fastgen(order=local)"), {.325});
  expect_near(recoveries("fastgen(order=punct)"), {.133333333});
  expect_near(recoveries("fastgen(order=frequent/local)"), {.783333333, .908333333});
  expect_near(recoveries("fastgen(order=local/frequent)"), {.325, .908333333});
  expect_near(recoveries("fastgen(order=special/frequent/local/punct)"), {.683333333, .783333333, .908333333, .975});
  EXPECT_EQ(kept("fastgen(order=local,recovery=0.3,recent=0.5)"), (Positions{3, 4, 5}));
  EXPECT_EQ(kept("fastgen(order=frequent,recovery=0.3)"), (Positions{0, 1}));
  EXPECT_EQ(kept("fastgen(order=local,recovery=0.4)").size(), 6U);
  EXPECT_FALSE(policy("fastgen(order=special/local)").observes({.length = 6, .prompt_end = 6}).any());
  EXPECT_TRUE(policy("fastgen").observes({.length = 6, .prompt_end = 6}).any());
}

// Two sets in one step: one policy of both.
TEST(FastGen, OrderMayJoinPolicies) {
  expect_near(recoveries("fastgen(order=frequent+local)"), {.908333333});
  expect_near(recoveries("fastgen(order=special/punct/frequent+local)"), {.683333333, .816666667, .975});
  expect_near(recoveries("fastgen(order=special+punct+frequent+local)"), {.975});
  EXPECT_EQ(choice("fastgen(recovery=0.9,order=special/punct/frequent+local)"), 2U);
  EXPECT_EQ(choice("fastgen(recovery=0.98,order=special/punct/frequent+local)"), 3U);  // full
  // The paper's fixed policies, on all heads.
  EXPECT_EQ(kept("fastgen(recovery=0,order=local,recent=0.5)"), (Positions{3, 4, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0,order=frequent)"), (Positions{0, 1}));
  EXPECT_EQ(kept("fastgen(recovery=0,order=local+frequent,recent=0.5)"), (Positions{0, 1, 3, 4, 5}));
  EXPECT_EQ(kept("fastgen(recovery=0,order=special+punct)"), (Positions{0, 2, 5}));
  EXPECT_TRUE(policy("fastgen(order=local+frequent)").observes({.length = 6, .prompt_end = 6}).any());
}

TEST(FastGen, TheFirstTokenAndBlanksCountUnlessToldOtherwise) {
  const Classes words = {kWord, kWord, kBlank, kWord, kWord, kPunct};
  const double punct = .8 / 6, blank = .6 / 6, first = 4.1 / 6;
  const auto two = [&](std::string_view more) {
    return recoveries(fmt::format("fastgen(order=special/punct{})", more), words);
  };
  expect_near(two(""), {first, first + punct});
  expect_near(two(",first=off"), {0, punct});
  expect_near(two(",blanks=off"), {first, first + punct - blank});
  expect_near(two(",first=off,blanks=off"), {0, punct - blank});
  EXPECT_EQ(kept("fastgen(order=special/punct,recovery=0.7,blanks=off)", words), (Positions{0, 5}));
  EXPECT_EQ(kept("fastgen(order=special/punct,recovery=0.1,first=off)", words), (Positions{2, 5}));
  expect_near(recoveries("fastgen(order=special,first=off)"), {first});  // it is a control token in any case
}

TEST(FastGen, AGroupGoesByItsMeanOrItsLeast) {
  // Two query heads: kMap, and one that looks at itself alone.
  Map self;
  for (std::size_t q = 0; q < kMap.size(); ++q) {
    self.emplace_back(q + 1);
    self.back()[q] = 1;
  }
  const auto of_two = [&](const FastGenPolicy& tokens) {
    return tokens.recoveries(Head::prompt(tokens, {kMap, self}, kClasses).rows(), 6);
  };
  const FastGenPolicy mean = policy("fastgen"), least = policy("fastgen(group=min)");
  EXPECT_EQ(Head::prompt(mean, {kMap, self}, kClasses).columns, 2);
  EXPECT_EQ(Head::prompt(least, {kMap, self}, kClasses).columns, 4);
  // Sums of both: 5.1 1.6 1.6 1.3 1.2 1.2, so again 0 and 1 are frequent; `self` recovers 1, 3, 4 and 6 of 6 queries.
  const std::vector<double> one = {.683333333, .816666667, .916666667, .975}, other = {1. / 6, 3. / 6, 4. / 6, 1};
  std::vector<double> both, smaller;
  for (std::size_t i = 0; i < 4; ++i) {
    both.push_back((one[i] + other[i]) / 2);
    smaller.push_back(std::min(one[i], other[i]));
  }
  expect_near(of_two(mean), both);
  expect_near(of_two(least), smaller);
  EXPECT_EQ(policy("fastgen(recovery=0.65)").choose(of_two(mean)), 1U);
  EXPECT_EQ(policy("fastgen(recovery=0.65,group=min)").choose(of_two(least)), 2U);
}

// ceil(0.3f * 10) in float is 4.
TEST(FastGen, BudgetsAreExact) {
  for (Pos n = 1; n <= 400; ++n) {
    const FastGenPolicy tokens = policy("fastgen(order=frequent,recovery=0)");
    Head head = Head::prompt(tokens, {}, Classes(static_cast<std::size_t>(n), kWord));
    head.select(tokens, prompt_end(n));
    EXPECT_EQ(static_cast<Pos>(head.pos.size()), (3 * n + 9) / 10) << n;
    const FastGenPolicy local = policy("fastgen(order=local,recovery=0)");
    Head newest = Head::prompt(local, {}, Classes(static_cast<std::size_t>(n), kWord));
    newest.select(local, prompt_end(n));
    EXPECT_EQ(static_cast<Pos>(newest.pos.size()), std::max(1, 3 * n / 10)) << n;
  }
}

TEST(FastGen, NothingIsDecidedInsideAPrompt) {
  const FastGenPolicy tokens = policy("fastgen(recovery=0.5)");
  Head head = Head::prompt(tokens, {kMap}, kClasses);
  const HeadRows set = head.rows();
  std::vector<Keep> keep(1);
  tokens.select({.phase = Phase::kPrompt, .length = 6, .prompt_length = 6}, {&set, 1}, keep);
  EXPECT_EQ(keep[0].size(), 6U);
  EXPECT_EQ(head.tag, 0);
}

// The criteria from the attention maps themselves: what each query would see, and how far its attention then moves.
TEST(FastGen, TheCriterionEqualsOneFromTheWholeMap) {
  std::mt19937 random(29);
  for (int round = 0; round < 60; ++round) {
    const Pos n = 7 + round;
    const Classes classes = random_classes(random, static_cast<std::size_t>(n));
    const Map map = random_map(random, classes.size());
    const FastGenPolicy tokens = policy("fastgen");
    Head head = Head::prompt(tokens, {map}, classes);
    const std::vector<double> found = tokens.recoveries(head.rows(), n);
    const std::vector<std::string> all = {"special", "punct", "frequent", "local"};
    for (std::size_t parts = 1; parts <= 4; ++parts) {
      const bool local = parts == 4;
      const Positions fixed =
          Slow{.parts = {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(parts, 3))}}.keep(
              head, n, n, true);
      const Pos window = std::max(1, 3 * n / 10);
      double mass = 0, distance = 0;
      for (Pos q = 0; q < n; ++q) {
        const auto& row = map[static_cast<std::size_t>(q)];
        const auto sees = [&](Pos pos) { return fixed.contains(pos) || (local && q - pos < window); };
        double kept = 0;
        for (Pos pos = 0; pos <= q; ++pos) kept += sees(pos) ? row[static_cast<std::size_t>(pos)] : 0;
        for (Pos pos = 0; pos <= q; ++pos) {
          const double a = row[static_cast<std::size_t>(pos)];
          distance += sees(pos) ? a / kept - a : a;
        }
        mass += kept;
      }
      EXPECT_NEAR(found[parts - 1], mass / n, 1e-6);
      EXPECT_NEAR(2 * (1 - found[parts - 1]), distance / n, 2e-6);  // T13
    }
  }
}

// T15
TEST(FastGen, MoreRecoveryNeverKeepsLess) {
  std::mt19937 random(31);
  for (int round = 0; round < 20; ++round) {
    const Pos n = 40;
    const Classes classes = random_classes(random, static_cast<std::size_t>(n));
    const std::vector<Map> maps = {random_map(random, classes.size())};
    Positions before;
    for (int percent = 0; percent <= 100; percent += 5) {
      const FastGenPolicy tokens = policy(fmt::format("fastgen(recovery={})", percent / 100.));
      Head head = Head::prompt(tokens, maps, classes);
      head.select(tokens, prompt_end(n));
      const Positions now = head.held();
      EXPECT_TRUE(std::ranges::includes(now, before)) << percent;
      before = now;
    }
    EXPECT_EQ(before.size(), static_cast<std::size_t>(n));
  }
}

TEST(FastGen, PrintsItselfWithoutDefaults) {
  expect_canonical({{"fastgen", "fastgen"},
                    {"fastgen(recovery=0.950,recent=30%,frequent=0.30,order=special/punct/frequent/"
                     "local,criterion=mass,group=mean,decode=literal,first=on,blanks=on)",
                     "fastgen"},
                    {"fastgen(blanks=off,first=off,decode=reselect,group=min,criterion=l1,order=local/"
                     "special,frequent=10%,recent=0.5,recovery=1)",
                     "fastgen(recovery=1,recent=0.5,frequent=0.1,order=local/"
                     "special,criterion=l1,group=min,decode=reselect,first=off,blanks=off)"},
                    {"fastgen(order=local+frequent)", "fastgen(order=frequent+local)"},
                    {"fastgen(order=special/local+punct/frequent)", "fastgen(order=special/punct+local/frequent)"}});
}

TEST(FastGen, RefusesBadArguments) {
  EXPECT_ERROR(policy("fastgen(recovery=1.1)"), "recovery of fastgen is \"1.1\", expected a number from 0 to 1");
  EXPECT_ERROR(policy("fastgen(recovery=nan)"), "recovery of fastgen is \"nan\"");
  EXPECT_ERROR(policy("fastgen(recent=3)"), "recent of fastgen is 3, expected a fraction such as 0.3");
  EXPECT_ERROR(policy("fastgen(frequent=1.5)"), "frequent of fastgen is \"1.5\", expected a fraction");
  EXPECT_ERROR(policy("fastgen(order=special/commas)"),
               "order of fastgen names \"commas\", expected some of special/punct/frequent/local");
  EXPECT_ERROR(policy("fastgen(order=special/)"), "order of fastgen names \"\"");
  EXPECT_ERROR(policy("fastgen(order=full)"), "order of fastgen names \"full\"");
  EXPECT_ERROR(policy("fastgen(order=local/special/local)"), "order of fastgen names local twice");
  EXPECT_ERROR(policy("fastgen(order=local+)"), "order of fastgen names \"\"");
  EXPECT_ERROR(policy("fastgen(order=local/special+local)"), "order of fastgen names local twice");
  EXPECT_ERROR(policy("fastgen(criterion=l2)"), "criterion of fastgen is \"l2\", expected one of mass, l1");
  EXPECT_ERROR(policy("fastgen(group=max)"), "group of fastgen is \"max\"");
  EXPECT_ERROR(policy("fastgen(decode=never)"), "decode of fastgen is \"never\"");
  EXPECT_ERROR(policy("fastgen(first=yes)"), "first of fastgen is \"yes\", expected one of on, off");
  EXPECT_ERROR(policy("fastgen(blanks=0)"), "blanks of fastgen is \"0\"");
  EXPECT_ERROR(policy("fastgen(0.95)"), "fastgen has the unknown argument \"0.95\"");
  EXPECT_ERROR(policy("fastgen(keep=512)"), "fastgen has the unknown argument \"keep=\"");
  EXPECT_ERROR(policy("fastgen(recovery=0.9,recovery=0.9)"), "fastgen has the argument recovery= twice");
}

}  // namespace
}  // namespace lamina::testing
