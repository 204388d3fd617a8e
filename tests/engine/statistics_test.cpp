// SPDX-License-Identifier: Apache-2.0
#include "engine/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"

namespace lamina {
namespace {

std::vector<float> random_logits(std::size_t vocab, float scale, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(vocab);
  for (float& x : logits) x = normal(generator);
  return logits;
}

std::vector<float> add(std::vector<float> a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// ln of the probabilities, in double.
std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float x : logits) total += std::exp(x - max);
  std::vector<double> out;
  for (const float x : logits) out.push_back(x - max - std::log(total));
  return out;
}

double naive_kl(const std::vector<float>& base, const std::vector<float>& logits) {
  const auto p = log_softmax(base), q = log_softmax(logits);
  double kl = 0;
  for (std::size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
  return kl;
}

std::ptrdiff_t top(const std::vector<float>& x) { return std::max_element(x.begin(), x.end()) - x.begin(); }

// Sizes around the vectors' and the blocks'; scales from flat rows to rows whose far end underflows.
TEST(Statistics, EqualsNaiveSumsAtAllSizesAndScales) {
  for (const std::size_t vocab : {1UL, 2UL, 15UL, 16UL, 17UL, 511UL, 512UL, 513UL, 1025UL, 49152UL})
    for (const float scale : {0.1F, 3.0F, 60.0F}) {
      const auto base = random_logits(vocab, scale, 1);
      const auto ours = add(base, random_logits(vocab, scale / 8, 2));
      const auto token = static_cast<Token>(vocab / 2);
      const TokenScore score = compare_token(base, ours, token);
      const auto at = static_cast<std::size_t>(token);
      SCOPED_TRACE(testing::Message() << vocab << " logits of deviation " << scale);
      // float32 exponentials are off by 2e-7, float32 differences of logits by as much of their size
      EXPECT_NEAR(score.nll, -log_softmax(ours)[at], 1e-6);
      EXPECT_NEAR(score.base_nll, -log_softmax(base)[at], 1e-6);
      EXPECT_NEAR(score.kl, naive_kl(base, ours), 1e-6 * (1 + static_cast<double>(scale)));
      EXPECT_EQ(score.same_top, top(base) == top(ours));
      EXPECT_EQ(score_token(ours, token).nll, score.nll);
    }
}

TEST(Statistics, SmallDivergencesAreMeasured) {
  const auto base = random_logits(49152, 3, 3);
  for (const float noise : {1e-1F, 1e-2F, 1e-3F}) {
    const auto ours = add(base, random_logits(base.size(), noise, 4));
    const double expected = naive_kl(base, ours);
    EXPECT_NEAR(compare_token(base, ours, 0).kl, expected, 1e-3 * expected + 5e-8) << noise;
  }
}

TEST(Statistics, EqualRowsDivergeByNothing) {
  const auto row = random_logits(1000, 5, 5);
  const TokenScore score = compare_token(row, row, 7);
  EXPECT_EQ(score.kl, 0);
  EXPECT_EQ(score.nll, score.base_nll);
  EXPECT_TRUE(score.same_top);
}

// exp(1000) is no double and no float; a constant added to all logits changes nothing.
TEST(Statistics, LargeLogitsDoNotOverflow) {
  const std::vector<float> row{1000, 999, -1000}, shifted{0, -1, -2000};
  const double log_sum = std::log1p(std::exp(-1.0));
  EXPECT_NEAR(score_token(row, 0).nll, log_sum, 1e-7);
  EXPECT_NEAR(score_token(row, 2).nll, 2000 + log_sum, 1e-4);
  EXPECT_NEAR(compare_token(row, shifted, 0).kl, 0, 1e-6);
}

TEST(Statistics, TheTopIsTheFirstOfTheLargest) {
  const std::vector<float> base{1, 5, 5, 0};
  EXPECT_TRUE(compare_token(base, std::vector<float>{0, 9, 1, 2}, 0).same_top);
  EXPECT_FALSE(compare_token(base, std::vector<float>{0, 1, 9, 2}, 0).same_top);
}

TEST(Statistics, SummaryOfAFewTokens) {
  const std::vector<TokenScore> scores{{.nll = 1, .base_nll = 0.5, .kl = 0.4, .same_top = true},
                                       {.nll = 2, .base_nll = 1.5, .kl = 0.1, .same_top = false},
                                       {.nll = 6, .base_nll = 4, .kl = 0.2, .same_top = true}};
  const Summary plain = summarize(scores, false);
  EXPECT_NEAR(plain.perplexity, std::exp(3.0), 1e-12);
  EXPECT_FALSE(plain.base.has_value());
  const auto base = summarize(scores, true).base;
  ASSERT_TRUE(base.has_value());
  EXPECT_NEAR(base->base_perplexity, std::exp(2.0), 1e-12);
  EXPECT_NEAR(base->kl_mean, 0.7 / 3, 1e-12);
  EXPECT_NEAR(base->kl_median, 0.2, 1e-12);
  EXPECT_NEAR(base->kl_p99, 0.2 + 0.98 * 0.2, 1e-12);
  EXPECT_NEAR(base->top1_agreement, 2.0 / 3, 1e-12);
}

// By hand: nll 1, 2, 6 have the mean 3 and the deviation sqrt(14 / 2), its error is sqrt(7 / 3) = 1.527525; differences
// 0.5, 0.5, 2 the mean 1 and the error sqrt(0.75 / 3) = 0.5; KL 0.4, 0.1, 0.2 the error sqrt(0.0233333 / 3) =
// 0.0881917.
TEST(Statistics, IntervalsOfAFewTokens) {
  const std::vector<TokenScore> scores{{.nll = 1, .base_nll = 0.5, .kl = 0.4, .same_top = true},
                                       {.nll = 2, .base_nll = 1.5, .kl = 0.1, .same_top = false},
                                       {.nll = 6, .base_nll = 4, .kl = 0.2, .same_top = true}};
  const Summary summary = summarize(scores, true);
  EXPECT_NEAR(summary.ln_perplexity_error, 1.527525, 1e-6);
  EXPECT_NEAR(summary.interval.low, std::exp(3 - 1.959964 * 1.527525), 1e-5);
  EXPECT_NEAR(summary.interval.high, std::exp(3 + 1.959964 * 1.527525), 1e-3);
  EXPECT_NEAR(summary.base->ln_ratio_error, 0.5, 1e-12);
  EXPECT_NEAR(summary.base->ratio.low, std::exp(1 - 1.959964 * 0.5), 1e-6);
  EXPECT_NEAR(summary.base->ratio.high, std::exp(1 + 1.959964 * 0.5), 1e-5);
  EXPECT_NEAR(summary.base->kl_error, 0.0881917, 1e-7);
  EXPECT_NEAR(summary.base->kl.low, 0.2333333 - 1.959964 * 0.0881917, 1e-6);
  EXPECT_NEAR(summary.base->kl.high, 0.2333333 + 1.959964 * 0.0881917, 1e-6);
  // Wilson's interval of 2 of 3, as its formula gives it by hand.
  EXPECT_NEAR(summary.base->top1.low, 0.207660, 1e-6);
  EXPECT_NEAR(summary.base->top1.high, 0.938508, 1e-6);
}

TEST(Statistics, WilsonIntervals) {
  // 8 of 10: Wilson's published example of a share of 0.8
  EXPECT_NEAR(wilson(8, 10).low, 0.490162, 1e-6);
  EXPECT_NEAR(wilson(8, 10).high, 0.943318, 1e-6);
  // none and all: z^2 / (n + z^2) away
  EXPECT_EQ(wilson(0, 10).low, 0);
  EXPECT_NEAR(wilson(0, 10).high, 3.841459 / 13.841459, 1e-6);
  EXPECT_NEAR(wilson(10, 10).low, 10 / 13.841459, 1e-6);
  EXPECT_EQ(wilson(10, 10).high, 1);
}

TEST(Statistics, AnErrorOfOneValueIsUnknown) {
  EXPECT_TRUE(std::isnan(standard_error(std::vector<double>{3})));
  EXPECT_EQ(standard_error(std::vector<double>{3, 3, 3}), 0);
  const std::vector<TokenScore> one{{.nll = 1, .base_nll = 1, .kl = 0.1, .same_top = true}};
  const Summary summary = summarize(one, true);
  EXPECT_TRUE(std::isnan(summary.interval.low) && std::isnan(summary.base->kl.low));
  EXPECT_NEAR(summary.perplexity, std::exp(1.0), 1e-12);
}

// Two windows of four tokens: the first two of each are early, then one each.
TEST(Statistics, ThirdsAreThoseOfEachWindow) {
  std::vector<TokenScore> scores;
  for (const double kl : {1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0})
    scores.push_back({.nll = std::log(kl), .kl = kl, .same_top = kl < 4});
  const auto [early, middle, late] = thirds(scores, 4);
  EXPECT_EQ(early.tokens, 4U);
  EXPECT_NEAR(early.kl_mean, 33.0 / 4, 1e-12);
  EXPECT_NEAR(early.perplexity, std::pow(1.0 * 2 * 10 * 20, 0.25), 1e-12);
  EXPECT_NEAR(early.top1_agreement, 0.5, 1e-12);
  EXPECT_NEAR(middle.kl_mean, 33.0 / 2, 1e-12);
  EXPECT_NEAR(middle.top1_agreement, 0.5, 1e-12);
  EXPECT_NEAR(late.kl_mean, 22, 1e-12);
  EXPECT_EQ(late.top1_agreement, 0);
  const auto none = thirds(std::span(scores).first(2), 1);
  EXPECT_EQ(none[0].tokens, 2U);
  EXPECT_EQ(none[2].tokens, 0U);
  EXPECT_TRUE(std::isnan(none[2].kl_mean));
}

TEST(Statistics, QuantilesAreLinearBetweenNeighbours) {
  EXPECT_EQ(quantile({3}, 0.99), 3);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 1), 4);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
}

TEST(Statistics, LogitsThatAreNotFiniteAreAnError) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  const auto good = random_logits(600, 1, 6);
  for (const float bad : {kNan, kInf})
    for (const std::size_t at : {0UL, 5UL, 599UL}) {
      auto row = good;
      row[at] = bad;
      EXPECT_THROW(summarize(std::vector{score_token(row, 1)}, false), Error) << bad << " at " << at;
      EXPECT_THROW(summarize(std::vector{compare_token(good, row, 1)}, true), Error) << bad << " at " << at;
      EXPECT_THROW(summarize(std::vector{compare_token(row, good, 1)}, true), Error) << bad << " at " << at;
    }
  EXPECT_THROW(summarize({}, false), Error);
}

}  // namespace
}  // namespace lamina
