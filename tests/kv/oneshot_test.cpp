// SPDX-License-Identifier: Apache-2.0
// The methods that choose at a prompt's end: KeyL2, KeyDiff and random, and what holds of all of them.
#include <gtest/gtest.h>

#include <array>

#include "kv/expect_error.h"
#include "kv/scored_layer.h"

namespace lamina {
namespace {

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

// Directions 0, 0, 90 and 53 degrees: their sum is (2.6, 1.8), to which they have cosines .82, .82, .57 and .95.
TEST(KeyDiff, KeepsTheKeysLeastLikeTheOthers) {
  const std::vector<float> keys = {1, 0, 8, 0, 0, 2, 3, 4, 0, 0};
  const std::vector<Pos> pos = range(0, 5);
  const auto rows = [&](std::string_view text, std::size_t n) {
    const HeadRows head{.pos = std::span(pos).first(n), .keys = std::span(keys).first(2 * n)};
    Keep keep;
    policy(text)->select(prompt_end(static_cast<Pos>(n)), {&head, 1}, {&keep, 1});
    return keep;
  };
  EXPECT_EQ(rows("keydiff(keep=1)", 4), (Keep{2}));
  EXPECT_EQ(rows("keydiff(keep=2)", 4), (Keep{0, 2}));  // of equals the lower position
  EXPECT_EQ(rows("keydiff(keep=75%)", 4), (Keep{0, 1, 2}));
  EXPECT_EQ(rows("keydiff(keep=2)", 5), (Keep{2, 4}));  // a key of zeros is like none
  EXPECT_EQ(rows("keydiff", 5).size(), 5U);
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
       {"keydiff(every=8,keep=50%)", "keydiff(keep=0.5,every=8)"},
       {"random(seed=0)", "random"},
       {"random(seed=7,keep=50%)", "random(keep=0.5,seed=7)"},
       {"snapkv(every=064)", "snapkv(every=64)"},
       {"pyramidkv(every=9,beta=3)", "pyramidkv(beta=3,every=9)"},
       {"adakv(every=9,floor=0)", "adakv(floor=0,every=9)"},
       {"keyl2(every=1,keep=3)", "keyl2(keep=3,every=1)"},
       {"random(seed=2,every=5)", "random(every=5,seed=2)"}});
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
