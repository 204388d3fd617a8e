// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/h2o.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/spec.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

// The positions kept of one set.
std::vector<Pos> kept(const TokenPolicy& tokens, const Step& step, const HeadRows& rows) {
  Keep keep;
  tokens.select(step, {&rows, 1}, {&keep, 1});
  std::vector<Pos> result;
  for (const std::uint32_t row : keep) result.push_back(rows.pos[row]);
  return result;
}
std::vector<Pos> kept(std::string_view text, const Step& step, const std::vector<Pos>& pos,
                      const std::vector<float>& mass) {
  return kept(*policy(text), step, {.pos = pos, .mass = mass, .columns = 1});
}
std::vector<Pos> kept(std::string_view text, const std::vector<float>& mass) {
  const auto n = static_cast<Pos>(mass.size());
  return kept(text, prompt_end(n), range(0, n), mass);
}

// T16 of the specification: the attention of four queries, summed by columns.
TEST(H2o, KeepsHeavyHittersAndTheNewest) {
  const float attention[4][4] = {{1, 0, 0, 0}, {.6F, .4F, 0, 0}, {.5F, .1F, .4F, 0}, {.4F, .1F, .2F, .3F}};
  std::vector<float> mass(4);
  for (const auto& query : attention)
    for (std::size_t row = 0; row < 4; ++row) mass[row] += query[row];
  const float sums[] = {2.5F, .6F, .6F, .3F};
  for (std::size_t row = 0; row < 4; ++row) EXPECT_NEAR(mass[row], sums[row], 1e-6);
  EXPECT_EQ(kept("h2o(heavy=1,recent=2)", mass), (std::vector<Pos>{0, 2, 3}));
  EXPECT_EQ(kept("h2o(heavy=2,recent=1)", {2.5F, .6F, .6F, .3F}), (std::vector<Pos>{0, 1, 3}));  // the lower of two
  EXPECT_EQ(kept("h2o(heavy=0,recent=3)", mass), (std::vector<Pos>{1, 2, 3}));
  EXPECT_EQ(kept("h2o(heavy=2,recent=2)", mass), range(0, 4));
  EXPECT_EQ(kept("h2o(heavy=9,recent=9)", mass), range(0, 4));
}

TEST(H2o, TiesKeepTheLowerPositions) {
  const std::vector<float> equal(12, 1.0F);
  for (Pos heavy = 0; heavy <= 9; ++heavy) {
    std::vector<Pos> want = range(0, heavy);
    for (Pos pos = 9; pos < 12; ++pos) want.push_back(pos);
    EXPECT_EQ(kept(fmt::format("h2o(heavy={},recent=3)", heavy), equal), want) << heavy;
  }
  EXPECT_EQ(kept("h2o(heavy=3,recent=1)", {1, 2, 1, 2, 1, 2, 1, 0}), (std::vector<Pos>{1, 3, 5, 7}));
  EXPECT_EQ(kept("h2o(heavy=4,recent=1)", {1, 2, 1, 2, 1, 2, 1, 0}), (std::vector<Pos>{0, 1, 3, 5, 7}));
  EXPECT_EQ(kept("h2o(heavy=6,recent=1)", {1, 2, 1, 2, 1, 2, 1, 0}), (std::vector<Pos>{0, 1, 2, 3, 4, 5, 7}));
}

// Against a slow selection by definition, over all numbers of rows that go: one alone is found in another way.
TEST(H2o, EqualsSortingByScore) {
  std::vector<float> mass(40);
  for (std::size_t i = 0; i < mass.size(); ++i) mass[i] = static_cast<float>((i * i * 7 + 3) % 11);  // many ties
  for (Pos heavy = 0; heavy <= 35; ++heavy) {
    std::vector<Pos> order = range(0, 35);
    std::stable_sort(order.begin(), order.end(), [&](Pos a, Pos b) { return mass[a] > mass[b]; });
    order.resize(static_cast<std::size_t>(heavy));
    std::sort(order.begin(), order.end());
    for (Pos pos = 35; pos < 40; ++pos) order.push_back(pos);
    EXPECT_EQ(kept(fmt::format("h2o(heavy={},recent=5)", heavy), mass), order) << heavy;
  }
}

TEST(H2o, EverySetKeepsItsOwn) {
  const auto tokens = policy("h2o(heavy=1,recent=1)");
  EXPECT_TRUE(tokens->by_head());
  EXPECT_TRUE(tokens->request_bound());
  EXPECT_EQ(tokens->pinned_rows(), 0);
  EXPECT_FALSE(tokens->renumbers());
  const std::vector<Pos> pos = range(0, 4), other = {3, 5, 8};
  const std::vector<float> a = {1, 3, 2, 0}, b = {1, 2, 9};
  const HeadRows sets[] = {{.pos = pos, .mass = a, .columns = 1}, {.pos = other, .mass = b, .columns = 1}, {}};
  std::vector<Keep> keep(3);
  tokens->select(prompt_end(9), sets, keep);
  EXPECT_EQ(keep[0], (Keep{1, 3}));
  EXPECT_EQ(keep[1], (Keep{1, 2}));  // of positions 3, 5, 8
  EXPECT_EQ(keep[2], Keep{});
}

// Of the prompt's length, in integers: 0.29 * 100 is below 29 in double arithmetic.
TEST(H2o, BudgetsComeFromThePrompt) {
  const auto rows = [](std::string_view text, Pos prompt) {
    return static_cast<Pos>(kept(text, std::vector<float>(static_cast<std::size_t>(prompt), 1)).size());
  };
  EXPECT_EQ(rows("h2o", 100), 20);
  EXPECT_EQ(rows("h2o", 109), 20);
  EXPECT_EQ(rows("h2o(heavy=0.29,recent=7)", 100), 36);
  EXPECT_EQ(rows("h2o(heavy=29%,recent=0.58)", 100), 87);
  EXPECT_EQ(rows("h2o", 5), 1);  // the newest row always stays
  EXPECT_EQ(rows("h2o(heavy=0.5,recent=0)", 10), 6);
  EXPECT_EQ(rows("h2o(heavy=1.0,recent=0.0)", 10), 10);
  EXPECT_EQ(rows("h2o(heavy=0,recent=0.000001)", 10), 1);
  // In decode the prompt's length counts, at a grid commit that of the text so far.
  const std::vector<float> mass(60, 1);
  EXPECT_EQ(kept("h2o(heavy=0.25,recent=0.25)", decode(60, 40), range(0, 60), mass).size(), 20U);
  const Step grid{.phase = Phase::kPrompt, .length = 60, .prompt_length = 60};
  EXPECT_EQ(kept("h2o(heavy=0.25,recent=0.25)", grid, range(0, 60), mass).size(), 30U);
}

TEST(H2o, DecodeHoldsTheRowsOfThePromptsEnd) {
  const auto tokens = policy("h2o(heavy=6,recent=0.1)");
  std::vector<Pos> pos = range(0, 50);
  std::vector<float> mass(50, 1);
  EXPECT_TRUE(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 50}).any());
  EXPECT_TRUE(tokens->observes({.length = 50, .prompt_end = 50}).any());
  EXPECT_EQ(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 50}).columns(4), 1);
  for (Pos length = 50; length < 90; ++length) {
    pos = kept(*tokens, length == 50 ? prompt_end(50) : decode(length, 50),
               {.pos = pos, .mass = std::span(mass).first(pos.size()), .columns = 1});
    ASSERT_EQ(pos.size(), 11U);
    ASSERT_EQ(tokens->most_rows(length, 50), 11);
    EXPECT_EQ(std::vector<Pos>(pos.end() - 5, pos.end()), range(length - 5, length));
    pos.push_back(length);
  }
  EXPECT_EQ(tokens->most_rows(7, 7), 6 + 1);
  EXPECT_EQ(tokens->most_rows(3, 3), 3);
}

TEST(H2o, ARowThatGainsLateDisplacesAnother) {
  EXPECT_EQ(kept("h2o(heavy=2,recent=1)", decode(9, 4), {0, 2, 5, 8}, {3, 1, 2, 0}), (std::vector<Pos>{0, 5, 8}));
  EXPECT_EQ(kept("h2o(heavy=2,recent=1)", decode(9, 4), {0, 2, 5, 8}, {3, 2, 1, 0}), (std::vector<Pos>{0, 2, 8}));
  EXPECT_EQ(kept("h2o(heavy=2,recent=1)", decode(9, 4), {0, 2, 5, 8}, {1, 1, 1, 9}), (std::vector<Pos>{0, 2, 8}));
}

TEST(H2o, OneshotChoosesAtTheEndOfThePromptOnly) {
  const auto tokens = policy("h2o(heavy=2,recent=3,oneshot)");
  EXPECT_TRUE(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 20}).any());
  EXPECT_FALSE(tokens->observes({.length = 20, .prompt_end = 20}).any());
  std::vector<float> mass(20);
  mass[4] = 2, mass[11] = 1;
  std::vector<Pos> pos = kept(*tokens, prompt_end(20), {.pos = range(0, 20), .mass = mass, .columns = 1});
  EXPECT_EQ(pos, (std::vector<Pos>{4, 11, 17, 18, 19}));
  for (Pos length = 21; length < 40; ++length) {
    pos.push_back(length - 1);
    ASSERT_EQ(kept(*tokens, decode(length, 20), {.pos = pos}), pos);
    ASSERT_EQ(tokens->most_rows(length, 20), static_cast<Pos>(pos.size()));
  }
}

// every=: in decode too, by all attention so far, within the prompt's budgets.
TEST(H2o, OneshotMayChooseAgain) {
  const auto tokens = policy("h2o(heavy=1,recent=0.2,oneshot,every=3)");
  EXPECT_EQ(tokens->observes({.length = 12, .prompt_end = 10}).first_query, 0);
  const std::vector<float> mass = {3, 1, 9, 0, 0};
  EXPECT_EQ(kept(*tokens, decode(12, 10), {.pos = range(7, 12), .mass = mass, .columns = 1}), range(7, 12));
  EXPECT_EQ(kept(*tokens, decode(13, 10), {.pos = range(8, 13), .mass = mass, .columns = 1}),
            (std::vector<Pos>{10, 11, 12}));
  EXPECT_EQ(tokens->most_rows(1000, 10), 3 + 2);
}

// By the number of queries that could see a row: length - position.
TEST(H2o, AverageForgivesYoungRows) {
  const std::vector<float> mass = {2.5F, .6F, 1.2F, .5F, .3F};  // over 5, 4, 3, 2 queries: .5 .15 .4 .25
  EXPECT_EQ(kept("h2o(heavy=2,recent=1)", mass), (std::vector<Pos>{0, 2, 4}));
  EXPECT_EQ(kept("h2o(heavy=3,recent=1)", mass), (std::vector<Pos>{0, 1, 2, 4}));
  EXPECT_EQ(kept("h2o(heavy=3,recent=1,average)", mass), (std::vector<Pos>{0, 2, 3, 4}));
  // exactly equal averages: the lower position
  EXPECT_EQ(kept("h2o(heavy=1,recent=1,average)", {2, 4, 3, 2, 0}), (std::vector<Pos>{1, 4}));
  EXPECT_EQ(kept("h2o(heavy=2,recent=1,average)", {2, 4, 3, 2, 0}), (std::vector<Pos>{1, 2, 4}));
}

TEST(H2o, ReadersAddUpOrTheMostCounts) {
  EXPECT_EQ(policy("h2o")->readers(), Readers::kOwner);
  EXPECT_EQ(policy("h2o(readers=sum)")->readers(), Readers::kSum);
  EXPECT_EQ(policy("h2o(readers=max)")->readers(), Readers::kMax);
  const std::vector<Pos> pos = range(0, 3);
  // [row][reader][head]: sums of the readers 6 0, 4 3, 1 9
  const std::vector<float> mass = {5, 1, 0, 0, 2, 2, 3, 0, 0, 1, 4, 5};
  HeadRows rows{.pos = pos, .mass = mass, .readers = 2, .columns = 2, .combined = Readers::kSum};
  EXPECT_EQ(rows.total(0), 6);
  EXPECT_EQ(rows.total(1), 7);
  EXPECT_EQ(rows.total(2), 10);
  EXPECT_EQ(rows.part(2, 1, 0), 1 + 5);  // of the second head alone
  EXPECT_EQ(kept(*policy("h2o(heavy=1,recent=1,readers=sum)"), prompt_end(3), rows), (std::vector<Pos>{1, 2}));
  rows.combined = Readers::kMax;
  EXPECT_EQ(rows.total(0), 6);
  EXPECT_EQ(rows.total(1), 4);
  EXPECT_EQ(rows.total(2), 9);
  EXPECT_EQ(rows.part(2, 1, 0), 5);
  rows.kinds = 2;  // one head, two kinds
  EXPECT_EQ(rows.total(2, 1), 5);
  EXPECT_EQ(rows.part(2, 0, 1), 5);
  EXPECT_EQ(kept(*policy("h2o(heavy=1,recent=1,readers=max)"), prompt_end(3), rows), (std::vector<Pos>{0, 2}));
  EXPECT_EQ(HeadRows{.pos = pos}.total(1), 0);
}

// Scores are compared in double: sums of float columns whose difference a float sum would lose.
TEST(H2o, ScoresAreSummedInDouble) {
  const std::vector<Pos> pos = range(0, 3);
  const std::vector<float> mass = {16777216, 0, 16777216, 1, 0, 0};
  const HeadRows rows{.pos = pos, .mass = mass, .columns = 2};
  EXPECT_EQ(kept(*policy("h2o(heavy=1,recent=1)"), prompt_end(3), rows), (std::vector<Pos>{1, 2}));
}

TEST(H2o, PrintsItselfWithoutDefaults) {
  expect_canonical({{"h2o", "h2o"},
                    {"h2o( heavy = 10% , recent=0.10 )", "h2o"},
                    {"h2o(readers=owner)", "h2o"},
                    {"h2o(recent=08,heavy=12.5%)", "h2o(heavy=0.125,recent=8)"},
                    {"h2o(average,oneshot,readers=max)", "h2o(readers=max,oneshot,average)"},
                    {"h2o(oneshot, heavy=0)", "h2o(heavy=0,oneshot)"},
                    {"h2o(readers=sum,oneshot,every=8)", "h2o(every=8,readers=sum,oneshot)"},
                    {"h2o(recent=0,readers=sum)", "h2o(recent=0,readers=sum)"}});
}

TEST(H2o, RefusesBadArguments) {
  EXPECT_ERROR(policy("h2o(fast)"),
               "h2o has the unknown argument \"fast\", expected one of heavy=, recent=, every=, readers=, or "
               "oneshot, average");
  EXPECT_ERROR(policy("h2o(heavy=3,streaming)"), "h2o has the argument streaming, expected h2o + grid(N)");
  EXPECT_ERROR(policy("h2o(every=8)"), "h2o has every=, which goes with oneshot");
  EXPECT_ERROR(policy("h2o(5)"), "h2o has the unknown argument \"5\"");
  EXPECT_ERROR(policy("h2o(keep=5)"), "h2o has the unknown argument \"keep=\"");
  EXPECT_ERROR(policy("h2o(oneshot=1)"), "h2o has the unknown argument \"oneshot=\"");
  EXPECT_ERROR(policy("h2o(oneshot,heavy=3,oneshot)"), "h2o has the argument oneshot twice");
  EXPECT_ERROR(policy("h2o(heavy=3,heavy=3)"), "h2o has the argument heavy= twice");
  EXPECT_ERROR(policy("h2o(readers=foo)"), "readers of h2o is \"foo\"");
  EXPECT_ERROR(policy("h2o(heavy=1.5)"), "heavy of h2o is \"1.5\", expected a fraction up to 1.0 or 100%");
  EXPECT_ERROR(policy("h2o(heavy=-1)"), "heavy of h2o is \"-1\", expected an integer from 0 to");
  EXPECT_ERROR(policy("h2o(recent=x)"), "recent of h2o is \"x\"");
  for (const char* nothing : {"heavy=0,recent=0", "heavy=0.0,recent=0", "heavy=0%,recent=0.0"})
    EXPECT_ERROR(policy(fmt::format("h2o({})", nothing)), "h2o keeps no rows: heavy=0") << nothing;
}

TEST(H2o, NeedsPromptsThatRunOnce) {
  KvShape shape;
  shape.layers = 4;
  shape.kv_heads = 2;
  shape.head_dim = 16;
  EXPECT_EQ(KvSpec::parse("map(0_0_2_2) + h2o(heavy=3) + k8v8", shape).text(), "map(0_0_2_2) + h2o(heavy=3) + k8v8");
  EXPECT_ERROR(KvSpec::parse("map(0_2_2_3) + h2o", shape, UpwardMaps::kAny),
               "h2o measures attention, but layers that "
               "read higher ones");
  EXPECT_NE(KvSpec::parse("h2o", shape).why_no_prefix_reuse(), "");
  EXPECT_EQ(KvSpec::parse("window(window=9)", shape).why_no_prefix_reuse(), "");
}

}  // namespace
}  // namespace lamina
