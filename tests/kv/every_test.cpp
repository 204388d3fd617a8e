// SPDX-License-Identifier: Apache-2.0
// Bounded decoding (every=N) and bounded prompts (grid): what a sequence holds at every step.
#include "kv/tokens/every.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "kv/expect_error.h"
#include "kv/kv_ops.h"
#include "kv/spec_parser.h"

namespace lamina::testing {
namespace {

Every every(std::string_view text) { return Every(parse_terms(text).at(0)); }
Step decode(Pos length, Pos prompt, Pos appended = 1) {
  return {.length = length, .prompt_length = prompt, .appended = appended};
}

TEST(Every, ChoosesAtFixedLengths) {
  const Every ten = every("x(every=10)");
  EXPECT_TRUE(ten.is_due({.phase = Phase::kPromptEnd, .length = 7, .prompt_length = 7}));
  EXPECT_TRUE(ten.is_due({.phase = Phase::kPrompt, .length = 7, .prompt_length = 7}));
  std::vector<Pos> due;
  for (Pos length = 8; length <= 40; ++length)
    if (ten.is_due(decode(length, 7))) due.push_back(length);
  EXPECT_EQ(due, (std::vector<Pos>{17, 27, 37}));
  // Steps of several tokens: once they have passed it, and not again before the next one.
  EXPECT_FALSE(ten.is_due(decode(16, 7, 4)));
  EXPECT_TRUE(ten.is_due(decode(19, 7, 4)));
  EXPECT_FALSE(ten.is_due(decode(17, 7, 0)));  // nothing has come since
  EXPECT_FALSE(ten.is_due(decode(22, 7, 3)));
  EXPECT_TRUE(ten.is_due(decode(57, 7, 40)));
  for (Pos length = 8; length <= 40; ++length) EXPECT_FALSE(Every().is_due(decode(length, 7)));
}

TEST(Every, TheLastQueriesBeforeAChoiceScore) {
  const auto first = [](std::string_view text, Pos length, Pos prompt, Pos window) {
    return every(text).first_query({.length = length, .prompt_end = prompt}, window);
  };
  EXPECT_EQ(first("x(every=10)", 7, 7, 4), 13);
  EXPECT_EQ(first("x(every=10)", 16, 7, 4), 13);
  EXPECT_EQ(first("x(every=10)", 17, 7, 4), 23);
  EXPECT_EQ(first("x(every=10)", 17, 7, 64), 17);  // those since the last choice
  EXPECT_EQ(first("x", 17, 7, 4), Observe::kNever);
}

TEST(Every, TheMostRowsAreTheBudgetAndThoseThatCameSince) {
  const Every ten = every("x(every=10)");
  EXPECT_EQ(ten.most_rows(30, 100, 100), 30);
  EXPECT_EQ(ten.most_rows(30, 104, 100), 34);
  EXPECT_EQ(ten.most_rows(30, 109, 100), 39);
  EXPECT_EQ(ten.most_rows(30, 100'000, 100), 39);
  EXPECT_EQ(ten.most_rows(300, 104, 100), 104);  // a budget that the text has not reached
  EXPECT_EQ(ten.most_rows(300, 1000, 100), 309);
  EXPECT_EQ(Every().most_rows(30, 104, 100), 34);
  EXPECT_EQ(Every().most_rows(30, 1100, 100), 1030);
  EXPECT_EQ(Every().most_rows(300, 104, 100), 104);
}

TEST(Every, RefusesBadArguments) {
  EXPECT_ERROR(every("snapkv(every=0)"), "every of snapkv is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(every("snapkv(every=0.5)"), "every of snapkv is \"0.5\"");
}

KvShape shape() {
  KvShape s;
  s.layers = 3;
  s.kv_heads = 2;
  s.head_dim = 16;
  s.query_group = 2;
  return s;
}

// One sequence that is fed random rows, and random attention where it is asked for.
class Fed {
 public:
  explicit Fed(const std::string& text) : spec(std::make_shared<KvSpec>(KvSpec::parse(text, shape()))) {}

  void step(Phase phase, int tokens) {
    std::normal_distribution<float> normal;
    std::exponential_distribution<float> uneven;
    std::vector<float> x(static_cast<std::size_t>(tokens * shape().kv_heads * shape().head_dim));
    observed.clear();
    for (int layer = 0; layer < shape().layers; ++layer) {
      for (float& value : x) value = normal(random_);
      kv.append(LayerId{layer}, kv.length(), tokens, x.data(), x.data());
      const auto heads = kv.segments(LayerId{layer});
      const Observation to = kv.observe(LayerId{layer}, tokens, phase != Phase::kDecode);
      if (to.mass.empty()) continue;
      observed.insert(to.what.first_query);
      for (std::size_t h = 0; h < heads.size(); ++h) {
        std::size_t sums = static_cast<std::size_t>(to.what.columns(shape().query_group) * (to.apart ? tokens : 1));
        std::size_t rows = 0;
        for (const Segment& s : heads[h]) rows += std::size_t{s.range().tiles()} * kTileRows;
        for (float& mass : std::span(to.mass[h], sums * rows)) mass += uneven(random_);
      }
    }
    kv.commit(phase, tokens);
  }
  void prompt(Pos tokens, int batch) {
    kv.expect_prompt(tokens);
    for (const Pos end = kv.length() + tokens; kv.length() < end;) {
      const int n = kv.prompt_step(end - kv.length(), batch);
      step(kv.length() + n == end ? Phase::kPromptEnd : Phase::kPrompt, n);
    }
  }

  // [slot, head] the positions held.
  std::vector<std::set<Pos>> held() {
    std::vector<std::set<Pos>> all;
    for (int layer = 0; layer < shape().layers; ++layer)
      for (const auto segments : kv.segments(LayerId{layer})) {
        std::set<Pos>& head = all.emplace_back();
        for (const Segment& s : segments)
          for (std::uint32_t i = 0; i < s.rows(); ++i)
            if (!is_dead(s, i)) head.insert(s.pos[i]);
      }
    return all;
  }

  std::shared_ptr<const KvSpec> spec;
  BlockPool pool{shape(), 64 << 20};
  KvSequence kv{spec, shape(), pool};
  std::set<Pos> observed;  // first queries that the last step was asked for

 private:
  std::mt19937 random_{3};
};

struct Bounded {
  const char* spec;
  std::size_t budget;  // rows of a head; of adakv on average
  Pos window;          // newest rows that are always held
};
void PrintTo(const Bounded& c, std::ostream* out) { *out << c.spec; }

constexpr Pos kPrompt = 70, kEvery = 10;

class BoundedDecode : public ::testing::TestWithParam<Bounded> {};

TEST_P(BoundedDecode, HoldsTheBudgetAndWhatCameSince) {
  const auto& [text, budget, window] = GetParam();
  const bool shares = std::string_view(text).starts_with("adakv");
  Fed fed(text);
  fed.prompt(kPrompt, 32);
  std::vector<std::set<Pos>> before = fed.held();
  for (Pos decoded = 0; decoded <= 95; ++decoded) {
    if (decoded > 0) fed.step(Phase::kDecode, 1);
    const std::vector<std::set<Pos>> now = fed.held();
    const std::size_t since = static_cast<std::size_t>(decoded % kEvery);
    std::size_t all = 0;
    for (std::size_t head = 0; head < now.size(); ++head) {
      all += now[head].size();
      if (!shares) {
        ASSERT_EQ(now[head].size(), budget + since) << decoded;
      }
      for (Pos pos = fed.kv.length() - window; pos < fed.kv.length(); ++pos) ASSERT_TRUE(now[head].contains(pos));
      for (const Pos pos : now[head])  // what has gone never comes back
        ASSERT_TRUE(before[head].contains(pos) || (decoded > 0 && pos == fed.kv.length() - 1)) << decoded;
    }
    ASSERT_EQ(all, now.size() * (budget + since)) << decoded;
    const TokenPolicy& policy = *fed.spec->slots[0].tokens;
    if (!shares) {
      ASSERT_EQ(policy.most_rows(fed.kv.length(), kPrompt), std::min<Pos>(budget + std::min(decoded, kEvery - 1), 165));
    }
    before = now;
  }
}

// What is planned is what is held, the sums of attention included; they are there only while queries are observed.
TEST_P(BoundedDecode, IsPlanned) {
  const std::string_view text = GetParam().spec;
  Fed fed(GetParam().spec);
  fed.prompt(kPrompt, 32);
  for (Pos decoded = 1; decoded <= 45; ++decoded) {
    fed.step(Phase::kDecode, 1);
    const KvPlan plan = plan_kv(fed.spec, shape(), kPrompt, decoded, 32);
    // Which rows go decides how many of a head wait for their tile to be encoded.
    const double waiting = text.find(" + k") != text.npos ? 6. * kTileRows * 2 * 2 * 16 : 0;
    const auto rows = static_cast<double>(fed.kv.bytes().rows);
    ASSERT_NEAR(rows, static_cast<double>(plan.steady.rows), waiting) << decoded;
    ASSERT_EQ(fed.kv.bytes().mass, plan.steady.mass) << decoded;
    const Pos since = decoded % kEvery;
    const bool looks = text.starts_with("h2o") || (text.find("window=6") != text.npos && since > kEvery - 6);
    EXPECT_EQ(fed.kv.bytes().mass > 0, looks) << decoded;
    if (text.find("window=6") != text.npos && looks) {
      EXPECT_EQ(fed.observed, (std::set<Pos>{kPrompt + decoded - since + kEvery - 6})) << decoded;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, BoundedDecode,
                         ::testing::Values(Bounded{"snapkv(keep=24,window=6,every=10)", 24, 6},
                                           Bounded{"snapkv(keep=0.5,window=6,every=10) + k8v4 + grid(16)", 35, 6},
                                           Bounded{"adakv(keep=24,window=6,floor=0.1,every=10)", 24, 6},
                                           Bounded{"keyl2(keep=24,every=10)", 24, 0},
                                           Bounded{"keyl2(keep=0.3,every=10) + k4v4", 21, 0},
                                           Bounded{"random(keep=24,every=10)", 24, 1},
                                           Bounded{"h2o(heavy=10,recent=0.2,oneshot,every=10) + k8v8", 24, 14}));

// The budgets fall from layer to layer in decode as they do at the prompt's end.
TEST(BoundedPyramid, LayersHoldTheirBudget) {
  Fed fed("pyramidkv(keep=24,window=6,beta=4,every=10)");  // 18 on average: 32 18 4
  fed.prompt(kPrompt, 32);
  for (Pos decoded = 0; decoded <= 65; ++decoded) {
    if (decoded > 0) fed.step(Phase::kDecode, 1);
    const std::size_t since = static_cast<std::size_t>(decoded % kEvery);
    std::vector<std::size_t> rows;
    for (const auto& head : fed.held()) rows.push_back(head.size() - since);
    ASSERT_EQ(rows, (std::vector<std::size_t>{38, 38, 24, 24, 10, 10})) << decoded;
  }
}

// A prompt that is shorter than the budget is kept whole, and then the text grows to the budget.
TEST(BoundedDecode, ShortPromptsGrowToTheBudget) {
  for (const char* text :
       {"snapkv(keep=40,window=6,every=10)", "adakv(keep=40,window=6,every=10)", "keyl2(keep=40,every=10)",
        "random(keep=40,every=10)", "h2o(heavy=30,recent=10,oneshot,every=10)"}) {
    Fed fed(text);
    fed.prompt(13, 32);
    std::size_t most = 0;
    for (Pos decoded = 1; decoded <= 80; ++decoded) {
      fed.step(Phase::kDecode, 1);
      std::size_t all = 0;
      for (const auto& head : fed.held()) all += head.size();
      if (fed.kv.length() < 40) {
        ASSERT_EQ(all, fed.held().size() * static_cast<std::size_t>(fed.kv.length())) << text;
      }
      most = std::max(most, all);
    }
    EXPECT_EQ(most, 6U * 49) << text;
  }
}

// Refused tokens do not count, and a step that passes the length at which rows go drops them at its end.
TEST(BoundedDecode, SpeculationKeepsTheBound) {
  Fed fed("snapkv(keep=24,window=6,every=10)");
  fed.prompt(kPrompt, 32);
  std::vector<float> x(static_cast<std::size_t>(4 * shape().kv_heads * shape().head_dim));
  for (int round = 0; round < 40; ++round) {
    const int accepted = round % 5;
    for (int layer = 0; layer < shape().layers; ++layer) {
      fed.kv.append(LayerId{layer}, fed.kv.length(), 4, x.data(), x.data());
      fed.kv.segments(LayerId{layer});
      fed.kv.observe(LayerId{layer}, 4, false);
    }
    fed.kv.commit(Phase::kDecode, 4, accepted);
    const auto since = static_cast<std::size_t>((fed.kv.length() - kPrompt) % kEvery);
    for (const auto& head : fed.held()) {
      ASSERT_LE(head.size(), 24 + since);
      ASSERT_GE(head.size(), 24U);
    }
  }
}

// A text that goes on with another prompt: sums of its decode do not score there.
TEST(BoundedDecode, PromptsMayFollow) {
  Fed fed("snapkv(keep=24,window=6,every=10)");
  fed.prompt(kPrompt, 32);
  for (int i = 0; i < 8; ++i) fed.step(Phase::kDecode, 1);
  EXPECT_GT(fed.kv.bytes().mass, 0U);
  fed.kv.expect_prompt(30);
  EXPECT_EQ(fed.kv.bytes().mass, 0U);
  fed.prompt(30, 32);
  for (const auto& head : fed.held()) EXPECT_EQ(head.size(), 24U);
  for (int i = 0; i < 9; ++i) fed.step(Phase::kDecode, 1);
  for (const auto& head : fed.held()) EXPECT_EQ(head.size(), 33U);
  fed.step(Phase::kDecode, 1);
  for (const auto& head : fed.held()) EXPECT_EQ(head.size(), 24U);
}

// Without every= each prompt is chosen from by itself: what the first and its answer left stays.
TEST(ByPrompt, EachPromptHasItsBudget) {
  for (const char* text :
       {"snapkv(keep=24,window=6)", "adakv(keep=24,window=6,floor=1)", "keyl2(keep=0.25)", "keydiff(keep=0.25)",
        "random(keep=0.25)", "h2o(heavy=0.125,recent=0.125,oneshot)", "expected(keep=0.25)"}) {
    SCOPED_TRACE(text);
    Fed fed(text);
    fed.prompt(96, 32);
    for (const auto& head : fed.held()) EXPECT_EQ(head.size(), 24U);
    for (int i = 0; i < 8; ++i) fed.step(Phase::kDecode, 1);
    const auto before = fed.held();
    fed.prompt(40, 32);
    const std::size_t kept = std::string_view(text).find("24") != std::string_view::npos ? 24 : 10;
    const auto after = fed.held();
    for (std::size_t head = 0; head < before.size(); ++head) {
      EXPECT_EQ(after[head].size(), before[head].size() + kept);
      EXPECT_TRUE(std::ranges::includes(after[head], before[head]));
      EXPECT_GE(*std::next(after[head].begin(), static_cast<std::ptrdiff_t>(before[head].size())), 104);
    }
  }
}

// A prompt in several calls, as bench fills a cache, is one.
TEST(ByPrompt, APromptGoesOnUntilItEnds) {
  Fed fed("keyl2(keep=0.25)");
  fed.kv.expect_prompt(40);
  fed.step(Phase::kPrompt, 40);
  fed.prompt(56, 32);
  for (const auto& head : fed.held()) EXPECT_EQ(head.size(), 24U);
}

// Commits inside the prompt go by the last queries before each, and forget those before.
TEST(BoundedPrompt, TheLastQueriesBeforeEachCommitScore) {
  const auto observed = [](const std::string& text, Pos prompt, int batch) {
    Fed fed(text);
    fed.kv.expect_prompt(prompt);
    std::map<Pos, std::pair<Pos, bool>> seen;  // by length: the first query, and whether sums stay after the step
    while (fed.kv.length() < prompt) {
      const int n = fed.kv.prompt_step(prompt - fed.kv.length(), batch);
      fed.step(fed.kv.length() + n == prompt ? Phase::kPromptEnd : Phase::kPrompt, n);
      const Pos first = fed.observed.empty() ? -1 : *fed.observed.begin();
      seen[fed.kv.length()] = {first, fed.kv.bytes().mass > 0};
    }
    return seen;
  };
  using Seen = std::map<Pos, std::pair<Pos, bool>>;
  const std::string text = "snapkv(keep=8,window=3,kernel=1) + grid(8)";
  EXPECT_EQ(observed(text, 22, 8), (Seen{{8, {5, false}}, {16, {13, false}}, {22, {19, false}}}));
  EXPECT_EQ(observed(text, 22, 4), (Seen{{4, {-1, false}},
                                         {8, {5, false}},
                                         {12, {-1, false}},
                                         {16, {13, false}},
                                         {20, {19, true}},
                                         {22, {19, false}}}));
  // The prompt's end comes two tokens after a commit: the last queries before that score again.
  EXPECT_EQ(observed(text, 18, 8), (Seen{{8, {5, false}}, {16, {13, true}}, {18, {15, false}}}));
  // Of a window that is longer than the distance those since the last commit.
  EXPECT_EQ(observed("snapkv(keep=12,window=12,kernel=1) + grid(8)", 32, 8),
            (Seen{{8, {0, false}}, {16, {8, false}}, {24, {16, true}}, {32, {20, false}}}));
}

// Under grid(N) the peak is that of the budget and N rows, whatever the prompt's length.
TEST(BoundedPrompt, ThePeakDoesNotGrow) {
  const double row_bytes = 3 * 2 * 2 * 16 * 2;  // layers, heads, keys and values, channels of two bytes
  for (const char* text :
       {"snapkv(keep=256)", "adakv(keep=256)", "pyramidkv(keep=256)", "keyl2(keep=256)", "random(keep=256)",
        "h2o(heavy=200,recent=56)", "h2o(heavy=200,recent=56,oneshot)", "snapkv(keep=256) + k4v4"}) {
    const auto peak = [&](const std::string& grid, int prompt) {
      const auto spec = std::make_shared<KvSpec>(KvSpec::parse(text + grid, shape()));
      return static_cast<double>(plan_kv(spec, shape(), prompt, 0, 512).peak_bytes);
    };
    const double bounded = peak(" + grid(512)", 2048);
    EXPECT_NEAR(peak(" + grid(512)", 16384), bounded, .02 * bounded) << text;
    EXPECT_GT(peak("", 16384), 4 * bounded) << text;
    // The sums of two query heads, stored and staged, positions, unused rows: a third more at heads of 16 channels.
    EXPECT_LT(bounded, 1.4 * (256 + 512) * row_bytes) << text;
  }
}

// A fraction is one of the text so far, so what is held there does not depend on what comes.
TEST(BoundedPrompt, CommitsInsideAPromptDoNotKnowItsEnd) {
  const auto at_32 = [](const char* text, Pos prompt) {
    Fed fed(text);
    fed.kv.expect_prompt(prompt);
    for (int i = 0; i < 4; ++i) fed.step(Phase::kPrompt, 8);
    return fed.held();
  };
  for (const char* text : {"snapkv(keep=0.5,window=3) + grid(8)", "adakv(keep=0.5,window=3) + grid(8)",
                           "pyramidkv(keep=0.5,window=3) + grid(8)", "keyl2(keep=0.5) + grid(8)",
                           "random(keep=0.5) + grid(8)", "h2o(heavy=0.25,recent=0.25) + grid(8)"}) {
    const auto held = at_32(text, 64);
    EXPECT_EQ(held, at_32(text, 4000)) << text;
    std::size_t all = 0;
    for (const auto& head : held) all += head.size();
    EXPECT_LE(all, held.size() * 16) << text;
  }
}

}  // namespace
}  // namespace lamina::testing
