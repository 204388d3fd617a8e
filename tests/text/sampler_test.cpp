// SPDX-License-Identifier: Apache-2.0
#include "text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"

namespace lamina {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Probable {
  Token token;
  double logit;
  double probability;
};

// The chain as the header describes it, in double, on the full vocabulary, one stage after the other.
class Naive {
 public:
  Naive(const SamplerConfig& config, const std::vector<Token>& text) : config_(config), text_(text) {}

  std::vector<Probable> distribution(const std::vector<float>& logits) {
    tokens_.clear();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const auto token = static_cast<Token>(i);
      tokens_.push_back({token, penalised(token, logits[i]), 0});
    }
    std::erase_if(tokens_, [](const Probable& p) { return std::isinf(p.logit); });
    if (config_.top_k > 0 && config_.top_k < static_cast<int>(logits.size())) sort_and_cut(config_.top_k);
    if (config_.top_p < 1) cut_top_p();
    const double best = std::ranges::max(tokens_, {}, &Probable::logit).logit;
    std::erase_if(tokens_, [&](const Probable& p) { return std::exp(p.logit - best) < config_.min_p * (1 - 1e-12); });
    normalise(config_.temperature);
    return tokens_;
  }

 private:
  double penalised(Token token, double logit) const {
    for (const auto& [biased, bias] : config_.logit_bias) {
      if (biased == token) logit += bias;
    }
    const auto last = config_.repeat_last_n < 0 ? text_.size() : static_cast<std::size_t>(config_.repeat_last_n);
    const auto begin = text_.end() - static_cast<std::ptrdiff_t>(std::min(last, text_.size()));
    const auto count = std::count(begin, text_.end(), token);
    if (count == 0) return logit;
    logit = logit > 0 ? logit / config_.repeat_penalty : logit * config_.repeat_penalty;
    return logit - static_cast<double>(count) * config_.frequency_penalty - config_.presence_penalty;
  }
  void sort_and_cut(int k) {
    std::ranges::stable_sort(tokens_, std::greater<>(), &Probable::logit);
    if (tokens_.size() > static_cast<std::size_t>(k)) tokens_.resize(static_cast<std::size_t>(k));
  }
  void cut_top_p() {
    sort_and_cut(static_cast<int>(tokens_.size()));
    normalise(1);
    double held = 0;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      held += tokens_[i].probability;
      if (held >= config_.top_p) return tokens_.resize(i + 1);
    }
  }
  void normalise(double temperature) {
    const double best = std::ranges::max(tokens_, {}, &Probable::logit).logit;
    double total = 0;
    for (Probable& p : tokens_) total += p.probability = std::exp((p.logit - best) / temperature);
    for (Probable& p : tokens_) p.probability /= total;
  }

  SamplerConfig config_;
  std::vector<Token> text_;
  std::vector<Probable> tokens_;
};

std::vector<float> random_logits(std::mt19937& random, std::size_t vocabulary) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(vocabulary);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

SamplerConfig everything_off() {
  SamplerConfig config;
  config.temperature = 1;
  config.top_k = 0;
  config.top_p = 1;
  config.min_p = 0;
  return config;
}

std::string error_of(const SamplerConfig& config, const std::vector<float>& logits = {0, 1}) {
  try {
    Sampler sampler(config);
    sampler.sample(logits);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Token for token against the naive chain fed with the same uniform numbers.
TEST(Sampler, EveryStageEqualsTheNaiveChain) {
  std::mt19937 random(11);
  const auto pick = [&](auto... values) {
    const std::vector list = {values...};
    return list[random() % list.size()];
  };
  for (int round = 0; round < 400; ++round) {
    SamplerConfig config;
    config.temperature = pick(0.3F, 0.8F, 1.0F, 2.5F);
    config.top_k = pick(0, 1, 2, 7, 40, 300, 5000);
    config.top_p = pick(0.0F, 0.2F, 0.9F, 0.95F, 0.9999F, 1.0F);
    config.min_p = pick(0.0F, 0.001F, 0.05F, 0.5F, 1.0F);
    config.repeat_penalty = pick(1.0F, 1.0F, 1.3F, 0.7F);
    config.presence_penalty = pick(0.0F, 0.5F, -0.5F);
    config.frequency_penalty = pick(0.0F, 0.25F);
    config.repeat_last_n = pick(0, 3, 64, -1);
    config.logit_bias = {{3, -kInf}, {5, 2.0F}, {6, -2.0F}};
    config.seed = random();
    const std::vector<float> logits = random_logits(random, pick(8U, 50U, 1000U, 4000U));
    Sampler sampler(config);
    std::mt19937_64 uniform(config.seed);
    std::vector<Token> text;
    for (int i = 0; i < 10; ++i) {
      const double u = static_cast<double>(uniform() >> 11) / 9007199254740992.0;
      double passed = 0;
      Token expected = -1;
      for (const Probable& p : Naive(config, text).distribution(logits)) {
        passed += p.probability;
        expected = p.token;
        if (u < passed) break;
      }
      const Token token = sampler.sample(logits);
      ASSERT_EQ(token, expected) << "round " << round << " draw " << i;
      text.push_back(token);
      sampler.accept(token);
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(random, 60);
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    SamplerConfig config;
    config.temperature = temperature;
    config.top_k = 30;
    config.top_p = 0.98F;
    config.min_p = 0.01F;
    config.seed = 42;
    Sampler sampler(config);
    const int draws = 40'000;
    std::map<Token, int> counts;
    for (int i = 0; i < draws; ++i) ++counts[sampler.sample(logits)];
    double chi_square = 0;
    const std::vector<Probable> expected = Naive(config, {}).distribution(logits);
    for (const Probable& p : expected) {
      const double mean = p.probability * draws;
      chi_square += (counts[p.token] - mean) * (counts[p.token] - mean) / mean;
    }
    EXPECT_EQ(counts.size(), expected.size());  // nothing that a stage removed
    ASSERT_GT(expected.size(), 5U);
    const double freedom = static_cast<double>(expected.size() - 1);
    EXPECT_LT(chi_square, freedom + 4 * std::sqrt(2 * freedom)) << temperature;  // about one in 10,000 seeds fails
  }
}

TEST(Sampler, GreedyTakesTheBestAndTheLowerIdOnATie) {
  SamplerConfig config;
  config.temperature = 0;
  Sampler sampler(config);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, -5}), 1);
  config.logit_bias = {{1, -kInf}, {3, 7.5F}};
  EXPECT_EQ(Sampler(config).sample(std::vector<float>{1, 3, 3, -5}), 2);
  config.logit_bias = {{3, 8.5F}};
  EXPECT_EQ(Sampler(config).sample(std::vector<float>{1, 3, 3, -5}), 3);
}

TEST(Sampler, TiesAtTheCutOfTopKGoToTheLowerId) {
  SamplerConfig config = everything_off();
  config.top_k = 3;
  Sampler sampler(config);
  std::vector<float> logits(100, 1.0F);
  logits[70] = 2;
  std::map<Token, int> counts;
  for (int i = 0; i < 300; ++i) ++counts[sampler.sample(logits)];
  ASSERT_EQ(counts.size(), 3U);
  EXPECT_TRUE(counts.contains(0) && counts.contains(1) && counts.contains(70));
}

TEST(Sampler, PenaltiesForgetWhatLeavesTheirRange) {
  SamplerConfig config;
  config.temperature = 0;
  config.repeat_last_n = 2;
  config.presence_penalty = 5;
  Sampler sampler(config);
  const std::vector<float> logits = {3, 2, 1, 0};
  std::vector<Token> text;
  for (int i = 0; i < 7; ++i) {
    text.push_back(sampler.sample(logits));
    sampler.accept(text.back());
  }
  EXPECT_EQ(text, (std::vector<Token>{0, 1, 2, 0, 1, 2, 0}));
}

TEST(Sampler, RepeatPenaltyPushesDownOnBothSidesOfZero) {
  SamplerConfig config;
  config.temperature = 0;
  config.repeat_penalty = 2;
  Sampler positive(config);
  positive.accept(0);
  EXPECT_EQ(positive.sample(std::vector<float>{3, 2}), 1);
  Sampler negative(config);
  negative.accept(0);
  EXPECT_EQ(negative.sample(std::vector<float>{-2, -3}), 1);
}

// Golden values: these change only when the generator, the conversion or the order of candidates does.
TEST(Sampler, TheSeedFixesTheText) {
  std::vector<float> logits(50);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7 % 50) / 10.0F;
  const auto text = [&](std::uint64_t seed) {
    SamplerConfig config;
    config.seed = seed;
    Sampler sampler(config);
    std::vector<Token> tokens(8);
    for (Token& token : tokens) token = sampler.sample(logits);
    return tokens;
  };
  EXPECT_EQ(text(0), (std::vector<Token>{14, 32, 7, 49, 42, 7, 6, 35}));
  EXPECT_EQ(text(1234), (std::vector<Token>{40, 7, 11, 40, 14, 40, 12, 40}));
  EXPECT_EQ(text(1234), text(1234));
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(error_of({}, {0, 1, nan}), "the logit of token 2 is nan, expected a finite number");
  EXPECT_EQ(error_of({}, {kInf, 1}), "the logit of token 0 is inf, expected a finite number");
  EXPECT_EQ(error_of({}, {0, -kInf}), "the logit of token 1 is -inf, expected a finite number");
  EXPECT_EQ(error_of({}, {}), "there are no logits to sample from");
}

TEST(Sampler, RefusesWhenEveryTokenIsBanned) {
  SamplerConfig config;
  config.logit_bias = {{0, -kInf}, {1, -kInf}};
  EXPECT_EQ(error_of(config), "every token is banned, nothing is left to sample");
  config.temperature = 0;
  EXPECT_EQ(error_of(config), "every token is banned, nothing is left to sample");
  config.logit_bias.pop_back();
  EXPECT_EQ(error_of(config), "");
}

TEST(Sampler, RefusesTokensOutsideOfTheVocabulary) {
  SamplerConfig config;
  config.logit_bias = {{2, 1.0F}};
  EXPECT_EQ(error_of(config), "token 2 is not in the vocabulary of 2");
  config.logit_bias.clear();
  Sampler sampler(config);
  EXPECT_THROW(sampler.accept(-1), Error);
  sampler.accept(2);
  EXPECT_THROW(sampler.sample(std::vector<float>{0, 1}), Error);
}

TEST(Sampler, ValidatesEveryField) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto error = [](auto change) {
    SamplerConfig config;
    change(config);
    return error_of(config);
  };
  EXPECT_EQ(error([](auto& c) { c.temperature = -1; }), "temperature is -1, expected 0 to 1000000");
  EXPECT_EQ(error([&](auto& c) { c.temperature = nan; }), "temperature is nan, expected 0 to 1000000");
  EXPECT_EQ(error([](auto& c) { c.top_k = -1; }), "top_k is -1, expected 0 to 2147483647");
  EXPECT_EQ(error([](auto& c) { c.top_p = 1.1F; }), "top_p is 1.1, expected 0 to 1");
  EXPECT_EQ(error([](auto& c) { c.min_p = -0.1F; }), "min_p is -0.1, expected 0 to 1");
  EXPECT_EQ(error([](auto& c) { c.repeat_penalty = 0; }), "repeat_penalty is 0, expected 0.01 to 100");
  EXPECT_EQ(error([](auto& c) { c.presence_penalty = 101; }), "presence_penalty is 101, expected -100 to 100");
  EXPECT_EQ(error([&](auto& c) { c.frequency_penalty = nan; }), "frequency_penalty is nan, expected -100 to 100");
  EXPECT_EQ(error([](auto& c) { c.repeat_last_n = -2; }), "repeat_last_n is -2, expected -1 to 2147483647");
  EXPECT_EQ(error([](auto& c) { c.logit_bias = {{-1, 0.0F}}; }), "logit_bias names the token -1, expected 0 or more");
  EXPECT_EQ(error([](auto& c) {
              c.logit_bias = {{1, kInf}};
            }),
            "logit_bias of token 1 is inf, expected -1e6 to 1e6 or -inf");
  EXPECT_EQ(error([](auto&) {}), "");
}

}  // namespace
}  // namespace lamina
