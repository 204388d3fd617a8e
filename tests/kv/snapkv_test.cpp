// SPDX-License-Identifier: Apache-2.0
// The methods that choose once, at a prompt's end: SnapKV, AdaKV and PyramidKV on one scorer, KeyL2, random.
#include "kv/tokens/snapkv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>

#include "kv/expect_error.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

using Sizes = std::vector<std::size_t>;
using Sets = std::vector<std::vector<Pos>>;

// Attention that the heads of one layer were given, and the norms of their keys: [head] of [row][query head].
struct Layer {
  int group = 1;
  std::vector<Pos> pos;
  std::vector<std::vector<float>> mass, norms;

  static Layer random(int heads, int group, Pos rows, unsigned seed) {
    std::mt19937 random(seed);
    std::exponential_distribution<float> exponential;  // attention is uneven
    Layer layer{.group = group, .pos = range(0, rows), .mass = {}, .norms = {}};
    for (int head = 0; head < heads; ++head) {
      layer.mass.emplace_back(static_cast<std::size_t>(rows * group));
      layer.norms.emplace_back(static_cast<std::size_t>(rows));
      for (float& x : layer.mass.back()) x = exponential(random) * (head == 0 ? 3.0F : 1.0F);
      for (float& x : layer.norms.back()) x = exponential(random);
    }
    return layer;
  }
};

// The positions that each head keeps.
Sets kept(const TokenPolicy& tokens, const Layer& layer, const Step& step) {
  std::vector<HeadRows> sets;
  std::uint8_t tag = 0;
  for (std::size_t head = 0; head < layer.mass.size(); ++head)
    sets.push_back({.pos = layer.pos,
                    .mass = layer.mass[head],
                    .columns = layer.group,
                    .key_norms = layer.norms.empty() ? std::span<const float>() : layer.norms[head],
                    .tag = &tag});
  std::vector<Keep> keep(sets.size());
  tokens.select(step, sets, keep);
  Sets result;
  for (const Keep& rows : keep) {
    EXPECT_TRUE(std::ranges::is_sorted(rows));
    result.emplace_back();
    for (const std::uint32_t row : rows) result.back().push_back(layer.pos.at(row));
  }
  return result;
}

Sizes sizes(const Sets& sets) {
  Sizes result(sets.size());
  std::ranges::transform(sets, result.begin(), [](const auto& set) { return set.size(); });
  return result;
}

std::size_t sum(const Sizes& x) { return std::accumulate(x.begin(), x.end(), std::size_t{0}); }

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

TEST(KeyL2, KeepsTheLowestNorms) {
  Layer layer{.group = 1, .pos = range(0, 6), .mass = {{}, {}}, .norms = {{3, 1, 2, 2, 2, 9}, {1, 2, 3, 4, 5, 6}}};
  EXPECT_EQ(kept(*policy("keyl2(keep=3)"), layer, prompt_end(6)), (Sets{{1, 2, 3}, {0, 1, 2}}));
  EXPECT_EQ(kept(*policy("keyl2(keep=0.5)"), layer, prompt_end(6)), (Sets{{1, 2, 3}, {0, 1, 2}}));
  EXPECT_EQ(kept(*policy("keyl2(keep=6)"), layer, prompt_end(6)), (Sets{layer.pos, layer.pos}));
  EXPECT_EQ(kept(*policy("keyl2(keep=0.01)"), layer, prompt_end(6)), (Sets{{1}, {0}}));  // one row at least
  layer.norms.clear();  // of merged keys there are none: the lower positions
  EXPECT_EQ(kept(*policy("keyl2(keep=2)"), layer, prompt_end(6)), (Sets{{0, 1}, {0, 1}}));
}

TEST(KeyL2, GridCommitsLoseNothingThatTheEndKeeps) {
  const Layer whole = Layer::random(2, 1, 64, 17);
  const auto tokens = policy("keyl2(keep=12)");
  Sets rows(2);
  for (Pos length = 16; length <= 64; length += 16) {
    for (std::size_t head = 0; head < 2; ++head) {
      const std::vector<Pos> fresh = range(length - 16, length);
      rows[head].insert(rows[head].end(), fresh.begin(), fresh.end());
      Layer part{.group = 1, .pos = rows[head], .mass = {{}}, .norms = {{}}};
      for (const Pos pos : rows[head]) part.norms[0].push_back(whole.norms[head][static_cast<std::size_t>(pos)]);
      rows[head] = kept(*tokens, part, {.phase = Phase::kPrompt, .length = length, .prompt_length = length})[0];
    }
  }
  EXPECT_EQ(rows, kept(*tokens, whole, prompt_end(64)));
}

TEST(Random, EachSeedLayerAndHeadKeepsOthers) {
  const Layer layer = Layer::random(3, 1, 200, 1);
  const auto rows = [&](std::string_view text, int slot) {
    Step step = prompt_end(200);
    step.slot = slot, step.slots = 4;
    return kept(*policy(text), layer, step);
  };
  const Sets first = rows("random(keep=0.25)", 0);
  EXPECT_EQ(sizes(first), (Sizes{50, 50, 50}));
  EXPECT_EQ(rows("random(keep=50)", 0), first);  // a seed is a choice
  EXPECT_NE(first[0], first[1]);
  EXPECT_NE(first[1], first[2]);
  EXPECT_NE(rows("random(keep=0.25)", 1), first);
  EXPECT_NE(rows("random(keep=0.25,seed=1)", 0), first);
  // Every part of the text is met alike: 3 heads x 4 layers x 50 rows of 200, so 150 in each quarter but for chance
  // (12).
  std::array<int, 4> quarters{};
  for (int slot = 0; slot < 4; ++slot)
    for (const auto& head : rows("random(keep=0.25)", slot))
      for (const Pos pos : head) ++quarters.at(static_cast<std::size_t>(pos / 50));
  for (const int quarter : quarters) EXPECT_NEAR(quarter, 150, 40);
}

TEST(Random, TheLastRowIsAlwaysKept) {
  for (int seed = 0; seed < 50; ++seed) {
    for (const char* keep : {"1", "2", "0.001", "19"}) {
      const Sets rows =
          kept(*policy(fmt::format("random(keep={},seed={})", keep, seed)), Layer::random(2, 1, 20, 1), prompt_end(20));
      for (const auto& head : rows) EXPECT_EQ(head.back(), 19) << keep << ", seed " << seed;
      EXPECT_EQ(rows[0].size(), static_cast<std::size_t>(std::max(1., std::stod(keep))));
    }
  }
}

TEST(OneShot, MostRowsIsNeverBelowWhatIsKept) {
  for (const char* text : {"snapkv(keep=48)", "snapkv(keep=0.1)", "adakv(keep=48,floor=0)", "adakv(keep=0.5,floor=0.1)",
                           "pyramidkv(keep=48)", "pyramidkv(keep=0.25,beta=2)", "keyl2(keep=9)", "random(keep=0.3)"}) {
    const auto tokens = policy(text);
    for (const Pos prompt : {1, 31, 33, 50, 99, 130, 257}) {
      for (unsigned seed = 0; seed < 4; ++seed) {
        Step step = prompt_end(prompt);
        step.slot = static_cast<int>(seed), step.slots = 4;
        for (const auto& head : kept(*tokens, Layer::random(3, 1, prompt, seed), step)) {
          EXPECT_LE(static_cast<Pos>(head.size()), tokens->most_rows(prompt, prompt)) << text << ", " << prompt;
          EXPECT_LE(static_cast<Pos>(head.size()) + 10, tokens->most_rows(prompt + 10, prompt))
              << text << ", " << prompt;
        }
      }
    }
  }
}

TEST(OneShot, PrintThemselvesWithoutDefaults) {
  expect_canonical(
      {{"snapkv", "snapkv"},
       {"snapkv(keep=512,window=32,kernel=7,pool=max)", "snapkv"},
       {"snapkv(pool=avg, kernel=05, window=16, keep=25%)", "snapkv(keep=0.25,window=16,kernel=5,pool=avg)"},
       {"snapkv(window=8)", "snapkv(window=8)"},
       {"pyramidkv(window=8,beta=20)", "pyramidkv"},
       {"pyramidkv(window=32,beta=10,keep=0.5)", "pyramidkv(keep=0.5,window=32,beta=10)"},
       {"adakv(floor=0.2)", "adakv"},
       {"adakv(floor=0.050,keep=100)", "adakv(keep=100,floor=0.05)"},
       {"adakv(floor=0)", "adakv(floor=0)"},
       {"keyl2(keep=512)", "keyl2"},
       {"keyl2(keep=12.5%)", "keyl2(keep=0.125)"},
       {"random(seed=0)", "random"},
       {"random(seed=7,keep=50%)", "random(keep=0.5,seed=7)"},
       {"snapkv(every=064)", "snapkv(every=64)"},
       {"pyramidkv(every=9,beta=3)", "pyramidkv(beta=3,every=9)"},
       {"adakv(every=9,floor=0)", "adakv(floor=0,every=9)"},
       {"keyl2(every=1,keep=3)", "keyl2(keep=3,every=1)"},
       {"random(every=5,seed=2)", "random(seed=2,every=5)"}});
}

TEST(OneShot, RefuseBadArguments) {
  EXPECT_ERROR(policy("snapkv(keep=31)"), "keep of snapkv is 31, expected at least the window of 32 rows");
  EXPECT_ERROR(policy("pyramidkv(keep=7)"), "keep of pyramidkv is 7, expected at least the window of 8 rows");
  EXPECT_ERROR(policy("snapkv(keep=0)"), "keep of snapkv is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("adakv(keep=0.0)"), "keep of adakv is \"0.0\", expected a fraction");
  EXPECT_ERROR(policy("snapkv(keep=1.5)"), "keep of snapkv is \"1.5\", expected a fraction");
  EXPECT_ERROR(policy("snapkv(kernel=4)"), "kernel of snapkv is 4, expected an odd number");
  EXPECT_ERROR(policy("snapkv(kernel=0)"), "kernel of snapkv is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("snapkv(window=0)"), "window of snapkv is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("snapkv(pool=mean)"), "pool of snapkv is \"mean\"");
  EXPECT_ERROR(policy("snapkv(beta=20)"), "snapkv has the unknown argument \"beta=\"");
  EXPECT_ERROR(policy("pyramidkv(floor=0.2)"), "pyramidkv has the unknown argument \"floor=\"");
  EXPECT_ERROR(policy("pyramidkv(beta=1)"), "beta of pyramidkv is \"1\", expected an integer from 2 to");
  EXPECT_ERROR(policy("adakv(floor=1.1)"), "floor of adakv is \"1.1\"");
  EXPECT_ERROR(policy("adakv(floor=nan)"), "floor of adakv is \"nan\"");
  EXPECT_ERROR(policy("keyl2(keep=0)"), "keep of keyl2 is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("keyl2(window=4)"), "keyl2 has the unknown argument \"window=\"");
  EXPECT_ERROR(policy("keyl2(every=-1)"), "every of keyl2 is \"-1\", expected an integer from 1 to");
  EXPECT_ERROR(policy("random(every=64,every=64)"), "random has the argument every= twice");
  EXPECT_ERROR(policy("random(seed=-1)"), "seed of random is \"-1\", expected an integer from 0 to");
}

}  // namespace
}  // namespace lamina
