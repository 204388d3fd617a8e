// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/kvzip.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/spec.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

using Sets = std::vector<Keep>;

// Of a layer whose heads have these scores.
Sets kept(const std::string& text, const std::vector<std::vector<float>>& scores, Step step) {
  const std::vector<Pos> pos = range(0, static_cast<Pos>(scores.front().size()));
  std::vector<HeadRows> sets;
  for (const auto& head : scores) sets.push_back({.pos = pos, .mass = head, .columns = 1});
  Sets keep(sets.size());
  policy(text)->select(step, sets, keep);
  return keep;
}

const std::vector<std::vector<float>> kScores = {{.1F, .2F, .9F, .3F, .8F, .1F}, {.1F, .5F, .4F, .1F, .2F, .25F}};

TEST(Kvzip, SharesTheBudgetOfALayerByScore) {
  EXPECT_EQ(kept("kvzip(keep=2,sinks=0)", kScores, prompt_end(6)), (Sets{{2, 4}, {1, 2}}));
  EXPECT_EQ(kept("kvzip(keep=3,sinks=0)", kScores, prompt_end(6)), (Sets{{2, 3, 4}, {1, 2, 5}}));
  EXPECT_EQ(kept("kvzip(keep=1,sinks=0)", kScores, prompt_end(6)), (Sets{{2, 4}, {}}));
  EXPECT_EQ(kept("kvzip(keep=1,sinks=0,share=head)", kScores, prompt_end(6)), (Sets{{2}, {1}}));
  EXPECT_EQ(kept("kvzip(keep=0.5,sinks=0,share=head)", kScores, prompt_end(6)), (Sets{{2, 3, 4}, {1, 2, 5}}));
}

TEST(Kvzip, KeepsTheSinksOfEachHead) {
  EXPECT_EQ(kept("kvzip(keep=2,sinks=1)", kScores, prompt_end(6)), (Sets{{0, 2, 4}, {0}}));
  EXPECT_EQ(kept("kvzip(keep=2,sinks=1,share=head)", kScores, prompt_end(6)), (Sets{{0, 2}, {0, 1}}));
  EXPECT_EQ(kept("kvzip(keep=0.1,sinks=3)", kScores, prompt_end(6)), (Sets{{0, 1, 2}, {0, 1, 2}}));
}

TEST(Kvzip, BetweenEqualsTheEarlierHeadAndLowerPositionStay) {
  const std::vector<std::vector<float>> equal(2, std::vector<float>(5, .5F));
  EXPECT_EQ(kept("kvzip(keep=3,sinks=0)", equal, prompt_end(5)), (Sets{{0, 1, 2, 3, 4}, {0}}));
  EXPECT_EQ(kept("kvzip(keep=3,sinks=0,share=head)", equal, prompt_end(5)), (Sets{{0, 1, 2}, {0, 1, 2}}));
}

TEST(Kvzip, ChoosesOnceAtThePromptsEnd) {
  const Sets all(2, Keep{0, 1, 2, 3, 4, 5});
  EXPECT_EQ(kept("kvzip(keep=1,sinks=0)", kScores, {.phase = Phase::kDecode, .length = 6, .prompt_length = 3}), all);
  EXPECT_EQ(kept("kvzip(keep=6)", kScores, prompt_end(6)), all);
  EXPECT_EQ(policy("kvzip(keep=50)")->most_rows(130, 120), 130);  // all that the other heads do not get
  EXPECT_EQ(policy("kvzip(keep=50,share=head)")->most_rows(130, 120), 60);
}

TEST(Kvzip, ObservesTheProbeAlone) {
  const auto tokens = policy("kvzip(piece=100)");
  EXPECT_EQ(tokens->probes(), 100);
  EXPECT_EQ(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 77}).first_query, 77);
  EXPECT_TRUE(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 77}).most);
  EXPECT_EQ(tokens->observes({.phase = Phase::kPrompt, .prompt_end = 77}).columns(3), 1);
  EXPECT_FALSE(tokens->observes({.phase = Phase::kDecode, .prompt_end = 77}).any());
  EXPECT_FALSE(tokens->request_bound());
}

TEST(Kvzip, PrintsItselfWithoutDefaults) {
  expect_canonical(
      {{"kvzip", "kvzip"},
       {"kvzip(sinks=4,piece=2048,share=layer,keep=512)", "kvzip"},
       {"kvzip(sinks=0,share=head, keep=25%, piece=064)", "kvzip(keep=0.25,share=head,piece=64,sinks=0)"}});
}

TEST(Kvzip, RefusesWhatCannotWork) {
  EXPECT_ERROR(policy("kvzip(keep=0)"), "keep of kvzip is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("kvzip(keep=3)"), "keep of kvzip is 3, expected at least the 4 sinks");
  EXPECT_ERROR(policy("kvzip(piece=15)"), "piece of kvzip is \"15\", expected an integer from 16 to");
  EXPECT_ERROR(policy("kvzip(share=all)"), "share of kvzip is \"all\"");
  EXPECT_ERROR(policy("kvzip(window=4)"), "kvzip has the unknown argument \"window=\"");
  KvShape shape;
  shape.layers = 4, shape.kv_heads = 2, shape.head_dim = 8;
  EXPECT_ERROR(KvSpec::parse("kvzip + grid(64)", shape),
               "kvzip looks at a whole prompt before any of it is committed, grid(64) commits on the way");
  EXPECT_ERROR(KvSpec::parse("map(0_2_2_3,kinds=any) + kvzip", shape, UpwardMaps::kAny),
               "kvzip measures attention, but layers that read higher ones");
  shape.windows = {0, 16, 0, 16};
  EXPECT_ERROR(KvSpec::parse("kvzip", shape),
               "kvzip asks for a prompt that layers with a sliding window no longer see");
  EXPECT_NO_THROW(KvSpec::parse("tokens(0=kvzip,2=kvzip)", shape));
  shape.windows = {};
  EXPECT_ERROR(KvSpec::parse("tokens(0=kvzip(piece=64),1=kvzip(piece=99))", shape), "pieces of 64 tokens");
  const KvSpec mixed = KvSpec::parse("tokens(0=kvzip(piece=99),1=kvzip(keep=9,piece=99),2=keyl2)", shape);
  EXPECT_EQ(mixed.probes(), 99);
  EXPECT_EQ(mixed.why_no_prefix_reuse(), "");
  EXPECT_EQ(KvSpec::parse("expected", shape).probes(), 0);
}

}  // namespace
}  // namespace lamina
