// SPDX-License-Identifier: Apache-2.0
// The protocols' bookkeeping, then the protocols themselves on tiny random models.
#include "engine/score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"

namespace lamina {
namespace {

using Rows = std::pair<std::size_t, std::size_t>;

std::vector<Token> counting(std::size_t n) {
  std::vector<Token> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

TEST(Windows, AreConsecutiveAndLeaveTheRest) {
  const Windows windows(counting(11), 4, 0, std::nullopt);
  ASSERT_EQ(windows.count(), 2U);
  EXPECT_EQ(windows[0], (std::vector<Token>{0, 1, 2, 3}));
  EXPECT_EQ(windows[1], (std::vector<Token>{4, 5, 6, 7}));
  EXPECT_EQ(Windows(counting(12), 4, 0, std::nullopt).count(), 3U);
  EXPECT_EQ(Windows(counting(12), 4, 1, std::nullopt).count(), 1U);
}

TEST(Windows, ABosReplacesTheFirstToken) {
  const Windows windows(counting(8), 4, 0, 99);
  EXPECT_EQ(windows[0], (std::vector<Token>{99, 1, 2, 3}));
  EXPECT_EQ(windows[1], (std::vector<Token>{99, 5, 6, 7}));
}

std::string error_of(std::size_t tokens, std::size_t size, std::size_t count) {
  try {
    Windows(counting(tokens), size, count, std::nullopt);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Windows, ATextThatIsTooShortIsAnError) {
  EXPECT_EQ(error_of(3, 4, 0), "the text has 3 tokens, one window needs 4");
  EXPECT_EQ(error_of(11, 4, 3), "the text has 11 tokens, 3 windows of 4 need 12");
  EXPECT_EQ(error_of(0, 4, 1), "the text has 0 tokens, one window needs 4");
}

// Token t is predicted by the row of position t - 1; the last row predicts nothing of the window.
TEST(ScoredRows, AreThoseBeforeTheScoredTokens) {
  EXPECT_EQ(scored_rows(0, 8, 5, 8), (Rows{4, 7}));
  EXPECT_EQ(scored_rows(0, 8, 1, 8), (Rows{0, 7}));
  EXPECT_EQ(scored_rows(0, 8, 7, 8), (Rows{6, 7}));
}

TEST(ScoredRows, OfBatchesAreTogetherThoseOfTheWindow) {
  constexpr std::size_t kWindow = 20;
  for (std::size_t first = 1; first < kWindow; ++first)
    for (std::size_t batch = 1; batch <= kWindow; ++batch) {
      std::vector<std::size_t> tokens;
      for (std::size_t begin = 0; begin < kWindow; begin += batch) {
        const std::size_t rows = std::min(batch, kWindow - begin);
        const auto [from, to] = scored_rows(begin, rows, first, kWindow);
        ASSERT_LE(to, rows);
        for (std::size_t row = from; row < to; ++row) tokens.push_back(begin + row + 1);
      }
      std::vector<std::size_t> expected(kWindow - first);
      std::iota(expected.begin(), expected.end(), first);
      EXPECT_EQ(tokens, expected) << "first " << first << ", batch " << batch;
    }
}

class Protocols : public testing::TestWithParam<const char*> {
 protected:
  ThreadPool pool_{2};
  Model model_ = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", pool_);
  std::size_t fed_ = 0;

  std::shared_ptr<const KvSpec> spec(const char* text) const {
    return std::make_shared<KvSpec>(KvSpec::parse(text, model_.shape()));
  }
  std::size_t vocab() const { return static_cast<std::size_t>(model_.config().vocab); }
  Scorer scorer(int batch) {
    return Scorer(model_, pool_, batch, [this](std::size_t tokens) { fed_ += tokens; });
  }
  std::vector<Token> text(std::size_t n) const {
    std::vector<Token> tokens(n);
    for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<Token>((i * i * 7 + i * 3 + 5) % vocab());
    return tokens;
  }
  // -ln p of tokens [first, end) of each window: one whole pass a window, exponentials in double.
  std::vector<double> naive_nll(const Windows& windows, std::size_t first) {
    std::vector<double> nll;
    for (std::size_t w = 0; w < windows.count(); ++w) {
      const auto window = windows[w];
      Session session(model_, pool_, {.spec = spec("f32"), .context = static_cast<Pos>(window.size())});
      session.score(window, [&](std::size_t begin, std::span<const float> logits) {
        ASSERT_EQ(begin, 0U);
        for (std::size_t t = first; t < window.size(); ++t) {
          const auto row = logits.subspan((t - 1) * vocab(), vocab());
          double sum = 0;
          for (const float x : row) sum += std::exp(static_cast<double>(x));
          nll.push_back(std::log(sum) - static_cast<double>(row[static_cast<std::size_t>(window[t])]));
        }
      });
    }
    return nll;
  }
};

TEST_P(Protocols, WindowsScoreTheirTokensFromTheWholePass) {
  const Windows windows(text(75), 24, 0, 2);
  const auto expected = naive_nll(windows, 13);
  for (const int batch : {24, 7, 1}) {
    fed_ = 0;
    const Score score = scorer(batch).score_windows(spec("f32"), windows, 13);
    ASSERT_EQ(score.tokens.size(), 3U * 11);
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(score.tokens[i].nll, expected[i], 1e-4) << "token " << i << ", batch " << batch;
    EXPECT_FALSE(score.compared);
    EXPECT_EQ(score.kv_length, 24);
    EXPECT_EQ(fed_, 72U);
  }
}

// The prompt's last logits score the first token; the policy has not dropped anything under f32, so one whole pass
// says the same.
TEST_P(Protocols, ContinuationsScoreWhatFollowsThePrompt) {
  const Windows windows(text(60), 30, 0, std::nullopt);
  const auto expected = naive_nll(windows, 20);
  const std::vector specs{spec("f32")};
  const auto scores = scorer(8).score_continuations(specs, nullptr, windows, 20);
  ASSERT_EQ(scores.size(), 1U);
  ASSERT_EQ(scores[0].tokens.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(scores[0].tokens[i].nll, expected[i], 1e-4) << i;
  EXPECT_EQ(scores[0].kv_length, 30);
  EXPECT_EQ(fed_, 60U);
}

// Prompts are computed once for all specs that agree on them: nobody's figures change by it.
TEST_P(Protocols, SpecsShareABaseAndEqualTheirOwnRuns) {
  const Windows windows(text(80), 40, 0, std::nullopt);
  const auto base = spec("full");
  std::vector<std::shared_ptr<const KvSpec>> specs;
  for (const char* text : {"full", "streaming(sinks=2,window=6) + k4v4", "h2o(heavy=6,recent=4)",
                           "snapkv(keep=8,window=3) + kivi4", "fastgen(recovery=0.9)", "expected(keep=0.4)", "f32",
                           "k8v8 + rotate", "keyl2(keep=9) + k4v4 + rotate", "random(keep=8) + grid(16)"})
    specs.push_back(spec(text));
  if (model_.shape().windows.empty()) specs.insert(specs.end(), {spec("kvzip(keep=0.5)"), spec("minicache(start=0)")});
  fed_ = 0;
  const auto together = scorer(13).score_continuations(specs, base, windows, 32);
  EXPECT_EQ(fed_, 80 * (1 + specs.size()));
  for (const TokenScore& score : together[0].tokens) {
    EXPECT_EQ(score.kl, 0);
    EXPECT_EQ(score.nll, score.base_nll);
    EXPECT_TRUE(score.same_top);
  }
  for (std::size_t s = 0; s < specs.size(); ++s) {
    SCOPED_TRACE(specs[s]->text());
    const Score alone = scorer(13).score_continuations(std::span(specs).subspan(s, 1), nullptr, windows, 32).front();
    ASSERT_EQ(together[s].tokens.size(), alone.tokens.size());
    for (std::size_t i = 0; i < alone.tokens.size(); ++i) {
      EXPECT_EQ(together[s].tokens[i].nll, alone.tokens[i].nll);
      EXPECT_EQ(together[s].tokens[i].base_nll, together[0].tokens[i].nll);
    }
    EXPECT_EQ(together[s].kept_fraction, alone.kept_fraction);
    EXPECT_EQ(together[s].kv_bytes, alone.kv_bytes);
  }
  double kl = 0;
  for (const TokenScore& score : together[1].tokens) kl += score.kl;
  EXPECT_GT(kl, 0);
  EXPECT_LT(together[1].kept_fraction, together[0].kept_fraction);
  EXPECT_NEAR(together[0].kept_fraction, 1, 1e-12);
}

// A base that was kept in a file gives the scores of the base itself to the file's precision (base_file.h): rows of
// these models are less than 50 nats deep, so a log-probability is off by 50 / 65535 at most.
TEST_P(Protocols, AKeptBaseComparesAsTheBaseItself) {
  const Windows windows(text(80), 40, 0, std::nullopt);
  const std::string path = testing::TempDir() + "lamina_kept_base_" + GetParam();
  const std::vector specs{spec("full"), spec("streaming(sinks=2,window=6) + k4v4")};
  const auto base = spec("full");
  const auto kept = [&](const std::string& protocol, std::size_t first, auto score) {
    BaseWriter writer(path, base_text(model_, windows, first, protocol, base->text()));
    const auto result = score(BaseRows{.from = nullptr, .to = &writer});
    writer.finish();
    return result;
  };
  const auto beside = kept("continuations", 32, [&](const BaseRows& rows) {
    return scorer(13).score_continuations(specs, base, windows, 32, rows);
  });
  const BaseFile file(path);
  const auto after = scorer(13).score_continuations(specs, nullptr, windows, 32, {.from = &file});
  for (std::size_t s = 0; s < specs.size(); ++s)
    for (std::size_t i = 0; i < beside[s].tokens.size(); ++i) {
      const TokenScore &a = beside[s].tokens[i], &b = after[s].tokens[i];
      EXPECT_TRUE(after[s].compared);
      EXPECT_EQ(a.nll, b.nll);
      EXPECT_NEAR(a.base_nll, b.base_nll, 8e-4);
      EXPECT_NEAR(a.kl, b.kl, 1e-5 + 8e-4 * a.kl);
      EXPECT_EQ(a.same_top, b.same_top);
    }
  const std::string bytes = read_text(path, 1 << 30);
  // without a spec beside, the only one is the base: the same rows
  kept("continuations", 32, [&](const BaseRows& rows) {
    return scorer(13).score_continuations(std::span(specs).first(1), nullptr, windows, 32, rows);
  });
  EXPECT_EQ(read_text(path, 1 << 30), bytes);

  const Score whole =
      kept("windows", 11, [&](const BaseRows& rows) { return scorer(13).score_windows(base, windows, 11, rows); });
  const BaseFile windows_file(path);
  EXPECT_THROW(windows_file.expect(base_text(model_, windows, 11, "continuations", "full")), Error);
  const Score again = scorer(7).score_windows(base, windows, 11, {.from = &windows_file});
  ASSERT_EQ(again.tokens.size(), 2U * 29);
  for (std::size_t i = 0; i < again.tokens.size(); ++i) {
    EXPECT_EQ(again.tokens[i].nll, whole.tokens[i].nll);
    EXPECT_NEAR(again.tokens[i].base_nll, whole.tokens[i].nll, 8e-4);
    EXPECT_LT(again.tokens[i].kl, 1e-6);
  }
  std::remove(path.c_str());
}

// The same bits whatever the number of threads.
TEST_P(Protocols, ScoresDoNotDependOnTheThreads) {
  const Windows windows(text(50), 25, 0, std::nullopt);
  ThreadPool one(1);
  Model model = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", one);
  const Scorer alone(model, one, 9, [](std::size_t) {});
  const auto a = alone.score_windows(spec("k8v8"), windows, 10), b = scorer(9).score_windows(spec("k8v8"), windows, 10);
  ASSERT_EQ(a.tokens.size(), b.tokens.size());
  for (std::size_t i = 0; i < a.tokens.size(); ++i) EXPECT_EQ(a.tokens[i].nll, b.tokens[i].nll) << i;
}

TEST_P(Protocols, AReferenceIsComparedRowByRow) {
  const auto tokens = text(20);
  std::vector<float> reference(tokens.size() * vocab());
  Session session(model_, pool_, {.spec = spec("full"), .context = 20});
  session.score(tokens, [&](std::size_t, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), reference.begin());
  });
  const Score same = scorer(6).score_reference(spec("full"), tokens, reference);
  ASSERT_EQ(same.tokens.size(), 19U);
  EXPECT_LT(summarize(same.tokens, true).base->kl_mean, 1e-6);
  // Row 4, which predicts token 5, made flat: its base loss is ln(vocab), the others stay.
  std::fill_n(&reference[4 * vocab()], vocab(), 0.0F);
  const Score flat = scorer(6).score_reference(spec("full"), tokens, reference);
  EXPECT_NEAR(flat.tokens[4].base_nll, std::log(static_cast<double>(vocab())), 1e-6);
  EXPECT_GT(flat.tokens[4].kl, 1e-3);
  EXPECT_EQ(flat.tokens[3].kl, same.tokens[3].kl);
  EXPECT_EQ(flat.tokens[5].kl, same.tokens[5].kl);
}

TEST_P(Protocols, ATokenOutsideTheVocabularyIsAnError) {
  auto tokens = text(10);
  tokens[5] = static_cast<Token>(vocab());
  const Windows windows(tokens, 10, 0, std::nullopt);
  const std::vector specs{spec("full")};
  EXPECT_THROW(scorer(5).score_windows(specs[0], windows, 5), Error);
  EXPECT_THROW(scorer(5).score_continuations(specs, nullptr, windows, 5), Error);
}

TEST_P(Protocols, ProgressMayEndTheWork) {
  const Windows windows(text(40), 20, 0, std::nullopt);
  std::size_t calls = 0;
  const Scorer scorer(model_, pool_, 4, [&calls](std::size_t) {
    if (++calls == 3) fail("stop");
  });
  EXPECT_THROW(scorer.score_windows(spec("full"), windows, 5), Error);
  EXPECT_EQ(calls, 3U);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Protocols, testing::Values("llama-gqa", "gemma3"),
                         [](const auto& test) { return std::string(test.param).substr(0, 5); });

}  // namespace
}  // namespace lamina
