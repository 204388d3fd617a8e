// SPDX-License-Identifier: Apache-2.0
// SnapKV, AdaKV and PyramidKV: one scorer.
#include "kv/tokens/snapkv.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/scored_layer.h"

namespace lamina {
namespace {

// T17
TEST(SnapKv, PoolsOverNeighbours) {
  const std::vector<double> scores = {.1, 0, .9, 0, .1, 0, 0, 0, .2};
  const std::vector<double> average = {.2, .2, .22, .2, .2, .02, .06, .04, .04};
  const std::vector<double> largest = {.9, .9, .9, .9, .9, .1, .2, .2, .2};
  const std::vector<double> by_average = pooled(scores, 5, false), by_largest = pooled(scores, 5, true);
  ASSERT_EQ(by_average.size(), scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) EXPECT_NEAR(by_average[i], average[i], 1e-15) << i;
  EXPECT_EQ(by_largest, largest);
  for (const bool max : {false, true}) {
    EXPECT_EQ(pooled(scores, 1, max), scores);
    EXPECT_TRUE(pooled({}, 5, max).empty());
  }
  EXPECT_EQ(pooled(std::vector<double>{3}, 7, true), (std::vector<double>{3}));
  EXPECT_DOUBLE_EQ(pooled(std::vector<double>{3}, 7, false)[0], 3. / 7);  // a kernel wider than the row: zeros beyond
}

// Pooled per query head, then averaged (R6): with the largest of neighbours the order matters.
TEST(SnapKv, PoolsEachQueryHeadBeforeTheMean) {
  Layer layer{.group = 2, .pos = range(0, 7), .mass = {{}}, .norms = {}};
  //                                   0       1       2       3       4       5   window
  for (const auto& [a, b] : std::vector<std::pair<float, float>>{
           {.6F, 0.F}, {0.F, .6F}, {0.F, 0.F}, {0.F, 0.F}, {.5F, .5F}, {0.F, 0.F}, {0.F, 0.F}})
    layer.mass[0].insert(layer.mass[0].end(), {a, b});
  // Per head: pooled to .6 .6 0 .5 .5 .5 and .6 .6 .6 .5 .5 .5, mean .6 .6 .3 .5 .5 .5. Of the mean .3 .3 0 0 .5 0 it
  // would be .3 .3 .3 .5 .5 .5.
  EXPECT_EQ(kept(*policy("snapkv(keep=3,window=1,kernel=3)"), layer, prompt_end(7)), (Sets{{0, 1, 6}}));
}

TEST(SnapKv, KeepsTheWindowAndTheBestBefore) {
  Layer layer{.group = 1, .pos = range(0, 10), .mass = {{1, 5, 2, 2, 9, 0, 2, 0, 0, 0}}, .norms = {}};
  // Between equals the lower position wins: 2 before 3 and 6.
  EXPECT_EQ(kept(*policy("snapkv(keep=6,window=3,kernel=1)"), layer, prompt_end(10)), (Sets{{1, 2, 4, 7, 8, 9}}));
  EXPECT_EQ(kept(*policy("snapkv(keep=7,window=3,kernel=1)"), layer, prompt_end(10)), (Sets{{1, 2, 3, 4, 7, 8, 9}}));
  // The mean's zeros beyond the ends: 1 of 1 and 5 is 2, 4 of 2, 9 and 0 is 3.67.
  EXPECT_EQ(kept(*policy("snapkv(keep=5,window=3,kernel=3,pool=avg)"), layer, prompt_end(10)), (Sets{{3, 4, 7, 8, 9}}));
  // Scores of the window's own rows do not reach those before it, pooled or not.
  layer.mass[0][7] = 100;
  EXPECT_EQ(kept(*policy("snapkv(keep=4,window=3,kernel=5)"), layer, prompt_end(10)), (Sets{{2, 7, 8, 9}}));
}

TEST(SnapKv, KeepIsRowsOrAFractionOfThePrompt) {
  const auto rows_of = [](std::string_view text, Pos prompt) {
    return kept(*policy(text), Layer::random(1, 2, prompt, 5), prompt_end(prompt)).at(0).size();
  };
  EXPECT_EQ(rows_of("snapkv(keep=64)", 200), 64U);
  EXPECT_EQ(rows_of("snapkv(keep=0.25)", 400), 100U);
  EXPECT_EQ(rows_of("snapkv(keep=25%)", 403), 100U);
  EXPECT_EQ(rows_of("snapkv(keep=0.29)", 200), 58U);
  EXPECT_EQ(rows_of("snapkv(keep=32)", 200), 32U);    // the window alone
  EXPECT_EQ(rows_of("snapkv(keep=0.01)", 200), 32U);  // never below the window
  EXPECT_EQ(rows_of("snapkv(keep=1.0)", 200), 200U);
}

TEST(SnapKv, ShortPromptsAreKeptWhole) {
  for (const char* text : {"snapkv(keep=64)", "adakv(keep=64)", "pyramidkv(keep=64)"}) {
    for (const Pos length : {0, 1, 5, 63, 64}) {
      const Layer layer = Layer::random(2, 2, length, 7);
      const Step step{.phase = Phase::kPromptEnd, .length = length, .prompt_length = length, .slot = 1, .slots = 4};
      EXPECT_EQ(kept(*policy(text), layer, step), (Sets{layer.pos, layer.pos})) << text << ", " << length;
    }
    EXPECT_LT(sum(sizes(kept(*policy(text), Layer::random(2, 2, 65, 7), prompt_end(65)))), 130U) << text;
  }
}

TEST(SnapKv, DecodeKeepsEverything) {
  for (const char* text :
       {"snapkv(keep=40)", "adakv(keep=40)", "pyramidkv(keep=40)", "keyl2(keep=40)", "random(keep=40)"}) {
    const auto tokens = policy(text);
    Layer layer = Layer::random(2, 2, 90, 3);
    EXPECT_FALSE(tokens->observes({.length = 90, .prompt_end = 90}).any()) << text;
    EXPECT_FALSE(tokens->reads_keys(Phase::kDecode)) << text;
    EXPECT_EQ(kept(*tokens, layer, decode(90, 60)), (Sets{layer.pos, layer.pos})) << text;
  }
}

// A commit inside a prompt chooses as its end would there.
TEST(SnapKv, GridBoundariesChooseAsThePromptsEndDoes) {
  const Layer layer = Layer::random(2, 2, 90, 3);
  const Step grid = {.phase = Phase::kPrompt, .length = 90, .prompt_length = 90};
  for (const char* text : {"snapkv(keep=40)", "adakv(keep=0.5)", "pyramidkv(keep=40)"})
    EXPECT_EQ(kept(*policy(text), layer, grid), kept(*policy(text), layer, prompt_end(90))) << text;
}

// In decode the budget is the prompt's, the window the newest rows, and rows that have gone are no neighbours.
TEST(SnapKv, EveryChoosesAgainInDecode) {
  Layer layer{.group = 1, .pos = {0, 3, 4, 9, 10, 11, 12, 13}, .mass = {{1, 5, 2, 9, 8, 0, 7, 0}}, .norms = {}};
  const Step due = decode(14, 10), early = decode(13, 10);
  for (const char* keep : {"5", "0.5"}) {
    const auto tokens = policy(fmt::format("snapkv(keep={},window=3,kernel=1,every=4)", keep));
    EXPECT_EQ(kept(*tokens, layer, due), (Sets{{9, 10, 11, 12, 13}})) << keep;
    EXPECT_EQ(kept(*tokens, layer, early), (Sets{layer.pos})) << keep;
  }
  EXPECT_EQ(kept(*policy("snapkv(keep=5,window=3,kernel=1)"), layer, due), (Sets{layer.pos}));
  EXPECT_EQ(kept(*policy("snapkv(keep=5,window=3,kernel=3,every=4)"), layer, due), (Sets{{4, 9, 11, 12, 13}}));
  EXPECT_EQ(policy("snapkv(window=3,every=4)")->observes({.length = 12, .prompt_end = 10}).first_query, 11);
  EXPECT_TRUE(policy("keyl2(every=4)")->reads_keys(Phase::kDecode));
  EXPECT_FALSE(policy("keyl2(every=4)")->observes({.length = 12, .prompt_end = 10}).any());
}

// Heads that hold other numbers of rows share what they hold, not what the smallest has.
TEST(AdaKv, UnevenHeadsShareTheWholeBudget) {
  const std::vector<Pos> many = range(0, 10), few = {7, 8, 9};
  const std::vector<float> mass(10, 1);
  const HeadRows sets[] = {{.pos = many, .mass = mass, .columns = 1},
                           {.pos = few, .mass = std::span(mass).first(3), .columns = 1}};
  std::vector<Keep> keep(2);
  policy("adakv(keep=5,window=1,kernel=1,floor=0,every=5)")->select(decode(10, 5), sets, keep);
  EXPECT_EQ(keep[0].size(), 9U);  // of 9 and 2 before the window 8
  EXPECT_EQ(keep[1].size(), 1U);
}

TEST(SnapKv, ObservesTheLastQueriesOfThePrompt) {
  const Observe observe = policy("snapkv(keep=64,window=16)")->observes({.phase = Phase::kPrompt, .prompt_end = 100});
  EXPECT_EQ(observe.first_query, 84);
  EXPECT_TRUE(observe.by_query_head);
  EXPECT_EQ(policy("snapkv")->observes({.phase = Phase::kPromptEnd, .prompt_end = 20}).first_query, 0);
  EXPECT_FALSE(policy("keyl2")->observes({.phase = Phase::kPromptEnd, .prompt_end = 20}).any());
  EXPECT_TRUE(policy("keyl2")->reads_keys(Phase::kPromptEnd));
  // What other requests may start from does not depend on queries.
  for (const char* bound : {"snapkv", "adakv", "pyramidkv"}) EXPECT_TRUE(policy(bound)->request_bound()) << bound;
  for (const char* free : {"keyl2", "random"}) EXPECT_FALSE(policy(free)->request_bound()) << free;
}

// T19, and what the specification says of its ends.
TEST(PyramidKv, BudgetsFallFromLayerToLayer) {
  std::size_t total = 0;
  for (int layer = 0; layer < 32; ++layer) {
    const std::size_t budget = pyramid_budget(120, 4088, 8, 20, layer, 32);
    EXPECT_EQ(budget, static_cast<std::size_t>(234 - 7 * layer)) << layer;
    total += budget;
  }
  EXPECT_EQ(total, 4016U);                                     // 125.5 on average, for 120: the formula's rounding
  EXPECT_EQ(pyramid_budget(2040, 8192, 8, 20, 0, 32), 3978U);  // cap 2048
  EXPECT_EQ(pyramid_budget(2040, 8192, 8, 20, 31, 32), 103U);
}

TEST(PyramidKv, ShortPromptsHaveFlatBudgets) {
  for (const int layer : {0, 1, 3}) {
    EXPECT_EQ(pyramid_budget(120, 119, 8, 20, layer, 4), 119U);  // all that there is
    EXPECT_EQ(pyramid_budget(120, 120, 8, 20, layer, 4), 120U);
    EXPECT_EQ(pyramid_budget(120, 200, 8, 20, layer, 4), 120U);
    EXPECT_EQ(pyramid_budget(120, 231, 8, 20, layer, 4), 120U);  // 239 tokens, 2B is 240
  }
  EXPECT_EQ(pyramid_budget(120, 4000, 8, 20, 0, 1), 120U);  // one layer has no slope
}

// From 2B tokens on; where there are fewer rows than the first layer's budget the last layer gets what that leaves.
TEST(PyramidKv, TheFirstBudgetIsAtMostWhatThereIs) {
  const auto budgets = [](std::size_t rows, int window) {
    Sizes result;
    for (int layer = 0; layer < 4; ++layer) result.push_back(pyramid_budget(120, rows, window, 20, layer, 4));
    return result;
  };
  EXPECT_EQ(budgets(232, 8), (Sizes{232, 158, 84, 10}));  // 240 tokens: most 232, least 8, step 74
  EXPECT_EQ(budgets(233, 8), (Sizes{233, 158, 83, 8}));   // least 7, step 75
  EXPECT_EQ(budgets(234, 8), (Sizes{234, 158, 82, 6}));   // as of any longer text
  EXPECT_EQ(budgets(1000, 8), (Sizes{234, 158, 82, 6}));
  EXPECT_EQ(budgets(240, 0), (Sizes{234, 158, 82, 6}));
}

TEST(PyramidKv, LayersKeepTheirBudgetAndTheWindow) {
  const auto tokens = policy("pyramidkv(keep=28,window=4,beta=6)");  // B 24: 44 to 4 in steps of 13
  const Layer layer = Layer::random(2, 2, 100, 11);
  std::vector<Pos> before;
  for (int slot = 3; slot >= 0; --slot) {
    Step step = prompt_end(100);
    step.slot = slot, step.slots = 4;
    const Sets rows = kept(*tokens, layer, step);
    const auto expected = std::size_t{48} - 13 * static_cast<std::size_t>(slot);
    EXPECT_EQ(sizes(rows), (Sizes{expected, expected})) << slot;
    EXPECT_TRUE(std::ranges::includes(rows[0], before));  // one order of rows, cut at different places
    EXPECT_TRUE(std::ranges::includes(rows[0], range(96, 100)));
    EXPECT_LE(rows[0].size(), static_cast<std::size_t>(tokens->most_rows(100, 100)));
    before = rows[0];
  }
}

TEST(AdaKv, HeadsShareTheBudgetByScore) {
  const Layer layer = Layer::random(4, 2, 300, 13);  // head 0 has three times the attention of the others
  const Sets even = kept(*policy("snapkv(keep=64,window=8)"), layer, prompt_end(300));
  EXPECT_EQ(sizes(even), (Sizes{64, 64, 64, 64}));
  for (const char* floor : {"0", "0.2", "0.5", "1"}) {
    const auto tokens = policy(fmt::format("adakv(keep=64,window=8,floor={})", floor));
    const Sets rows = kept(*tokens, layer, prompt_end(300));
    EXPECT_EQ(sum(sizes(rows)), 4 * 64U) << floor;
    const auto least = 8 + static_cast<std::size_t>(std::stod(floor) * 56);
    for (std::size_t head = 0; head < 4; ++head) {
      EXPECT_GE(rows[head].size(), least) << floor << ", head " << head;
      EXPECT_LE(rows[head].size(), static_cast<std::size_t>(tokens->most_rows(300, 300))) << floor << ", head " << head;
      EXPECT_TRUE(std::ranges::includes(rows[head], range(292, 300)));
      // each head's rows are its best: more or fewer of the same order
      const auto& [small, large] =
          std::minmax(rows[head], even[head], [](const auto& a, const auto& b) { return a.size() < b.size(); });
      EXPECT_TRUE(std::ranges::includes(large, small)) << floor << ", head " << head;
    }
    if (std::string_view(floor) == "1") {
      EXPECT_EQ(rows, even);
    } else {
      EXPECT_GT(rows[0].size(), rows[1].size()) << floor;
    }
  }
}

// By hand: 2 heads of 5 rows before the window of 1, 2 each on average, pooled over themselves.
TEST(AdaKv, TheFloorComesFirstThenTheBestOfAllHeads) {
  const Layer layer{.group = 1, .pos = range(0, 6), .mass = {{9, 8, 7, 6, 5, 0}, {4, 3, 2, 1, 0, 0}}, .norms = {}};
  const auto rows = [&](const char* floor) {
    return kept(*policy(fmt::format("adakv(keep=3,window=1,kernel=1,floor={})", floor)), layer, prompt_end(6));
  };
  EXPECT_EQ(rows("0"), (Sets{{0, 1, 2, 3, 5}, {5}}));
  EXPECT_EQ(rows("0.49"), (Sets{{0, 1, 2, 3, 5}, {5}}));  // rounded down
  EXPECT_EQ(rows("0.5"), (Sets{{0, 1, 2, 5}, {0, 5}}));
  EXPECT_EQ(rows("1"), (Sets{{0, 1, 5}, {0, 1, 5}}));
  // What the floor gives is not compared again: 9 and 8 are each head's one, then 7 and 6 beat the ones.
  const Layer uneven{.group = 1, .pos = range(0, 6), .mass = {{9, 1, 1, 1, 1, 0}, {8, 7, 6, 5, 4, 0}}, .norms = {}};
  EXPECT_EQ(kept(*policy("adakv(keep=3,window=1,kernel=1,floor=0.5)"), uneven, prompt_end(6)),
            (Sets{{0, 5}, {0, 1, 2, 5}}));
}

TEST(AdaKv, EqualScoresGoToTheLowerHeadAndPosition) {
  const Layer layer{.group = 1, .pos = range(0, 5), .mass = {{1, 1, 1, 1, 0}, {1, 1, 1, 1, 0}}, .norms = {}};
  EXPECT_EQ(kept(*policy("adakv(keep=3,window=1,kernel=1,floor=0)"), layer, prompt_end(5)),
            (Sets{{0, 1, 2, 3, 4}, {4}}));
}

}  // namespace
}  // namespace lamina
