// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/token_policy.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

std::vector<Pos> kept(const TokenPolicy& tokens, const std::vector<Pos>& pos, const Step& step) {
  const std::vector<HeadRows> sets(3, HeadRows{pos});
  std::vector<Keep> keep(3);
  tokens.select(step, sets, keep);
  EXPECT_EQ(keep[1], keep[0]);
  EXPECT_EQ(keep[2], keep[0]);
  std::vector<Pos> result;
  for (const std::uint32_t row : keep[0]) result.push_back(pos.at(row));
  return result;
}

TEST(StreamingPolicy, KeepsSinksAndNewest) {
  const auto tokens = policy("streaming(sinks=2,window=4)");
  EXPECT_EQ(kept(*tokens, range(0, 10), prompt_end(10)), (std::vector<Pos>{0, 1, 7, 8, 9}));
  EXPECT_EQ(kept(*tokens, range(0, 6), prompt_end(6)), (std::vector<Pos>{0, 1, 3, 4, 5}));
  EXPECT_EQ(kept(*tokens, range(0, 5), prompt_end(5)), range(0, 5));
  EXPECT_EQ(kept(*tokens, range(0, 1), prompt_end(1)), range(0, 1));
  EXPECT_TRUE(kept(*tokens, {}, prompt_end(5)).empty());
  tokens->select(prompt_end(5), {}, {});
}

TEST(StreamingPolicy, PositionsAreTheOnlyDifferenceToWindow) {
  const auto streaming = policy("streaming(window=8)");
  const auto window = policy("window(window=8)");
  EXPECT_TRUE(streaming->renumbers());
  EXPECT_FALSE(window->renumbers());
  for (const TokenPolicy* tokens : {streaming.get(), window.get()}) {
    EXPECT_EQ(tokens->pinned_rows(), 4);
    EXPECT_EQ(kept(*tokens, range(0, 30), prompt_end(30)), (std::vector<Pos>{0, 1, 2, 3, 23, 24, 25, 26, 27, 28, 29}));
  }
}

// R8: each decode query meets sinks + window rows, itself included, and never more.
TEST(StreamingPolicy, DecodeMeetsSinksAndWindowRows) {
  for (const int sinks : {0, 1, 4}) {
    for (const int window : {1, 2, 7}) {
      const auto tokens = policy(fmt::format("window(sinks={},window={})", sinks, window));
      std::vector<Pos> rows = kept(*tokens, range(0, 20), prompt_end(20));
      for (Pos length = 21; length < 60; ++length) {
        rows.push_back(length - 1);
        ASSERT_EQ(static_cast<int>(rows.size()), sinks + window);
        rows = kept(*tokens, rows, decode(length, 20));
        ASSERT_EQ(static_cast<int>(rows.size()), tokens->most_rows(length, 20));
        std::vector<Pos> expected = range(0, sinks);
        for (Pos pos = length - window + 1; pos < length; ++pos) expected.push_back(pos);
        ASSERT_EQ(rows, expected);
      }
    }
  }
}

// A window layer has lost its sinks already: what is left is judged by position alone.
TEST(StreamingPolicy, WorksOnRowsInsideAModelsWindow) {
  const auto tokens = policy("window(sinks=4,window=6)");
  EXPECT_EQ(kept(*tokens, range(88, 100), prompt_end(100)), range(95, 100));
  EXPECT_EQ(kept(*tokens, range(97, 100), prompt_end(100)), range(97, 100));
  EXPECT_EQ(kept(*tokens, range(2, 14), prompt_end(14)), (std::vector<Pos>{2, 3, 9, 10, 11, 12, 13}));
}

TEST(StreamingPolicy, KeepCountsEveryRowHeld) {
  const auto tokens = policy("streaming(keep=10)");
  EXPECT_EQ(kept(*tokens, range(0, 100), prompt_end(100)), (std::vector<Pos>{0, 1, 2, 3, 94, 95, 96, 97, 98, 99}));
  EXPECT_EQ(tokens->most_rows(100, 100), 10);
  EXPECT_EQ(tokens->most_rows(7, 7), 7);
}

TEST(StreamingPolicy, KeepMayBeAFractionOfThePrompt) {
  const auto rows_of = [](std::string_view text, Pos prompt) {
    return static_cast<Pos>(kept(*policy(text), range(0, prompt), prompt_end(prompt)).size());
  };
  EXPECT_EQ(rows_of("window(keep=0.25)", 1024), 256);
  EXPECT_EQ(rows_of("window(keep=25%)", 1023), 255);
  EXPECT_EQ(rows_of("window(keep=0.29)", 100), 29);  // 28 in double arithmetic
  EXPECT_EQ(rows_of("window(keep=100%)", 77), 77);
  EXPECT_EQ(rows_of("window(keep=0.01)", 100), 5);  // never below sinks + 1
  const auto tokens = policy("window(keep=0.25)");
  EXPECT_EQ(tokens->most_rows(2000, 1024), 256);
  EXPECT_EQ(tokens->most_rows(2'000'000'000, 2'000'000'000), 500'000'000);
  // In decode the prompt's length counts, at a grid commit the text so far: the prompt's own length is not known.
  EXPECT_EQ(kept(*tokens, range(0, 60), decode(60, 40)).size(), 10U);
  const Step grid = {.phase = Phase::kPrompt, .length = 60, .prompt_length = 60};
  EXPECT_EQ(kept(*tokens, range(0, 60), grid).size(), 15U);
}

// Committing at a grid on the way ends with the rows that one commit at the end keeps.
TEST(StreamingPolicy, GridCommitsLoseNothingThatTheEndKeeps) {
  for (const char* text : {"window(window=9)", "window(keep=12)", "window(keep=0.4)"}) {
    const auto tokens = policy(text);
    std::vector<Pos> rows;
    for (Pos length = 16; length <= 64; length += 16) {
      for (Pos pos = length - 16; pos < length; ++pos) rows.push_back(pos);
      rows = kept(*tokens, rows, {.phase = Phase::kPrompt, .length = length, .prompt_length = length});
    }
    EXPECT_EQ(rows, kept(*tokens, range(0, 64), prompt_end(64))) << text;
  }
}

TEST(StreamingPolicy, PrintsItselfWithoutDefaults) {
  expect_canonical({{"streaming(window=0512, sinks=4)", "streaming(window=512)"},
                    {"window( sinks = 0 , window = 8 )", "window(sinks=0,window=8)"},
                    {"window(keep=512)", "window(keep=512)"},
                    {"window(keep=25%)", "window(keep=0.25)"},
                    {"window(keep=12.5%)", "window(keep=0.125)"},
                    {"window(keep=0.0001%)", "window(keep=0.000001)"},
                    {"window(keep=100%)", "window(keep=1.0)"}});
}

TEST(StreamingPolicy, RefusesBadArguments) {
  EXPECT_ERROR(policy("streaming"), "streaming says not how much to keep, expected streaming(window=N)");
  EXPECT_ERROR(policy("window(sinks=4)"), "window says not how much to keep");
  EXPECT_ERROR(policy("window(window=4,keep=9)"), "window has both window= and keep=");
  EXPECT_ERROR(policy("window(window=0)"), "window of window is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("window(window=1000000001)"), "expected an integer from 1 to 1000000000");
  EXPECT_ERROR(policy("window(window=5x)"), "window of window is \"5x\"");
  EXPECT_ERROR(policy("window(window=5,sinks=-1)"), "sinks of window is \"-1\"");
  EXPECT_ERROR(policy("window(512)"),
               "window has the unknown argument \"512\", expected one of sinks=, window=, keep=");
  EXPECT_ERROR(policy("window(size=512)"), "window has the unknown argument \"size=\"");
  EXPECT_ERROR(policy("window(window=5,window=6)"), "window has the argument window= twice");
  EXPECT_ERROR(policy("window(keep=4)"), "keep of window is 4, expected more rows than the 4 sinks");
  for (const char* keep :
       {"0.0", "1.1", "101%", "0%", "%", ".", "0.", ".5", "0.1234567", "12.34567%", "-0.5", "0.5.5"}) {
    EXPECT_ERROR(policy(fmt::format("window(keep={})", keep)), "expected a fraction") << keep;
  }
}

TEST(Registry, KnowsItsMethodsOnly) {
  EXPECT_EQ(token_policy_names(),
            (std::vector<std::string_view>{"fastgen", "h2o", "snapkv", "pyramidkv", "adakv", "pyramidinfer", "expected",
                                           "kvzip", "keyl2", "streaming", "window", "random", "keydiff"}));
  EXPECT_EQ(policy("k8v8"), nullptr);
}

}  // namespace
}  // namespace lamina
