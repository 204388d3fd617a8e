// SPDX-License-Identifier: Apache-2.0
// The scoring of choices against sessions that compute each choice for itself, and against a reference in double.
#include "engine/choice.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "engine/statistics.h"

namespace lamina {
namespace {

// ---- tokens
// -----------------------------------------------------------------------------------------------------------

// A token a byte, but for "n g", which " n" and "g" would make.
std::vector<Token> bytes_of(const std::string& text) {
  std::vector<Token> tokens(text.begin(), text.end());
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
    if (tokens[i] == ':' && tokens[i + 1] == ' ') {
      tokens[i] = 1000;
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  return tokens;
}

ChoiceItem item_of(const std::string& context, const std::vector<std::string>& continuations) {
  ChoiceItem item;
  for (const std::string& text : continuations) item.choices.push_back({context, text, text.size()});
  return item;
}

std::string error_of(const ChoiceItem& item, const ChoiceEncoder& encoder, Pos context) {
  try {
    encode_choices(item, encoder, context);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChoiceTokens, TheContinuationIsWhatTheContextDoesNotHave) {
  const ChoiceEncoder encoder{.encode = bytes_of, .start = 7};
  const auto plain = encode_choices(item_of("ab", {" c", " de"}), encoder, 100);
  EXPECT_EQ(plain[0].context, bytes_of("ab"));
  EXPECT_EQ(plain[0].continuation, bytes_of(" c"));
  EXPECT_EQ(plain[1].continuation, bytes_of(" de"));
  // White space at the end goes over.
  const auto spaces = encode_choices(item_of("ab \n", {"c"}), encoder, 100);
  EXPECT_EQ(spaces[0].context, bytes_of("ab"));
  EXPECT_EQ(spaces[0].continuation, bytes_of(" \nc"));
  // Where both together have fewer tokens than apart, the context keeps its own and the continuation gets the rest.
  const auto merged = encode_choices(item_of("ab:", {" c"}), encoder, 100);
  EXPECT_EQ(merged[0].context, bytes_of("ab:"));
  EXPECT_EQ(merged[0].continuation, bytes_of("c"));
}

TEST(ChoiceTokens, AnEmptyContextIsTheStart) {
  const auto tokens = encode_choices(item_of("  ", {"c"}), {.encode = bytes_of, .start = 7}, 100);
  EXPECT_EQ(tokens[0].context, std::vector<Token>{7});
  EXPECT_EQ(tokens[0].continuation, bytes_of("  c"));
  const auto with_bos = [](const std::string& text) {
    std::vector<Token> all = bytes_of(text);
    all.insert(all.begin(), 7);
    return all;
  };
  const auto begun = encode_choices(item_of("", {"c"}), {.encode = with_bos, .start = 7}, 100);
  EXPECT_EQ(begun[0].context, std::vector<Token>{7});
  EXPECT_EQ(begun[0].continuation, bytes_of("c"));
  EXPECT_EQ(error_of(item_of("", {"c"}), {.encode = bytes_of, .start = {}}, 100),
            "the context is empty and the model has no token to begin with");
}

TEST(ChoiceTokens, WhatDoesNotFitIsAnError) {
  const ChoiceEncoder encoder{.encode = bytes_of, .start = {}};
  EXPECT_EQ(error_of(item_of("abc", {" d", " de"}), encoder, 5), "no error");  // the last token is not fed
  EXPECT_EQ(error_of(item_of("abc", {" d", " de"}), encoder, 4),
            "choice 2 makes 5 tokens, the context has 4 (see --ctx-size)");
  EXPECT_EQ(error_of(item_of("ab", {"c", ""}), encoder, 9), "choice 2 has no tokens");
}

// ---- which choice
// -----------------------------------------------------------------------------------------------------

TEST(Chosen, TheHighestTheFirstOfEqualsAndByCharacter) {
  ChoiceItem item = item_of("", {"ab", "abcd", "abcd"});
  const ChoiceScore score{.log_likelihoods = {-5, -6, -6}};
  EXPECT_EQ(chosen(score), 0U);
  EXPECT_EQ(chosen_by_character(score, item), 1U);
  item.choices[1].characters = 0;  // its log-likelihood by character is minus infinity
  EXPECT_EQ(chosen_by_character(score, item), 2U);
}

TEST(Chosen, AccuraciesAndTheirStandardErrors) {
  const std::vector items(4, item_of("", {"a", "abcd"}));  // the first is right
  const std::vector<ChoiceScore> scores{{.log_likelihoods = {-1, -9}, .tokens = 1, .kept_fraction = 1, .kv_bytes = 8},
                                        {.log_likelihoods = {-2, -6}, .tokens = 2, .kept_fraction = 0.5, .kv_bytes = 8},
                                        {.log_likelihoods = {-1, -2}, .tokens = 3, .kept_fraction = 1, .kv_bytes = 8},
                                        {.log_likelihoods = {-3, -2}, .tokens = 4, .kept_fraction = 1, .kv_bytes = 4}};
  const ChoiceSummary summary = summarize_choices(items, scores);
  EXPECT_EQ(summary.accuracy.share, 0.75);
  EXPECT_EQ(summary.accuracy_norm.share, 0.25);
  EXPECT_NEAR(summary.accuracy.error, 0.5 / std::sqrt(4.0), 1e-12);  // of 1 1 1 0: deviation 0.5
  EXPECT_EQ(summary.tokens, 2.5);
  EXPECT_EQ(summary.kept_fraction, 0.875);
  EXPECT_EQ(summary.kv_bytes, 7);
}

// ---- log-likelihoods
// --------------------------------------------------------------------------------------------------

class ChoiceScores : public testing::TestWithParam<const char*> {
 protected:
  ThreadPool pool_{2};
  Model model_ = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", pool_);

  std::shared_ptr<const KvSpec> spec(const char* text) const {
    return std::make_shared<KvSpec>(KvSpec::parse(text, model_.shape()));
  }
  std::vector<std::shared_ptr<const KvSpec>> specs() const {
    std::vector<std::shared_ptr<const KvSpec>> all;
    for (const char* text : {"f32", "full", "streaming(sinks=2,window=6) + k4v4", "h2o(heavy=6,recent=4)",
                             "snapkv(keep=8,window=3) + kivi4(residual=32)", "fastgen(recovery=0.9)",
                             "pyramidinfer(keep=0.3,min=4)", "k8v8 + grid(16)", "keyl2(keep=9) + k4v4 + rotate"})
      all.push_back(spec(text));
    if (model_.shape().windows.empty()) {
      all.push_back(spec("kvzip(keep=0.5)"));
      all.push_back(spec("minicache(start=0)"));
    }
    return all;
  }
  std::vector<Token> text(std::size_t n, std::size_t start) const {
    std::vector<Token> tokens(n);
    const auto vocab = static_cast<std::size_t>(model_.config().vocab);
    for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<Token>(((i + start) * (i + 3) * 7 + start) % vocab);
    return tokens;
  }
  // Choices of several lengths on contexts of so many tokens.
  std::vector<ChoiceTokens> choices(std::initializer_list<std::size_t> contexts) const {
    std::vector<ChoiceTokens> all;
    for (const std::size_t n : contexts)
      for (const std::size_t length : {1, 7, 3, 40}) all.push_back({text(n, n), text(length, 11 * length)});
    return all;
  }
  // One choice by itself, the protocol word for word.
  double alone(const std::shared_ptr<const KvSpec>& kv, const ChoiceTokens& choice) {
    const std::size_t prompt = std::max<std::size_t>(choice.context.size() - 1, 1);
    Session session(model_, pool_, {.spec = kv, .context = 600, .batch = 13});
    std::span<const float> logits = session.prompt(std::span(choice.context).first(prompt));
    if (prompt < choice.context.size()) logits = session.decode(choice.context.back());
    double sum = 0;
    for (const Token token : choice.continuation) {
      sum -= score_token(logits, token).nll;
      logits = session.decode(token);
    }
    return sum;
  }
};

// Choices share a prompt, a first step and, all specs together, each step after: to the same bits as one by one.
TEST_P(ChoiceScores, EqualThoseOfEachChoiceAlone) {
  const auto all = specs();
  const auto questions = choices({20, 33, 1});
  const auto scores = score_choices(model_, pool_, all, questions, 13);
  ASSERT_EQ(scores.size(), all.size());
  for (std::size_t s = 0; s < all.size(); ++s) {
    SCOPED_TRACE(all[s]->text());
    for (std::size_t i = 0; i < questions.size(); ++i)
      EXPECT_EQ(scores[s].log_likelihoods[i], alone(all[s], questions[i])) << "choice " << i;
  }
  EXPECT_NE(scores[0].log_likelihoods, scores[2].log_likelihoods);
}

TEST_P(ChoiceScores, DependNeitherOnTheOtherSpecsNorOnTheThreads) {
  const auto all = specs();
  const auto questions = choices({24});
  const auto together = score_choices(model_, pool_, all, questions, 512);
  ThreadPool one(1);
  Model model = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", one);
  for (std::size_t s = 0; s < all.size(); ++s) {
    const auto single = score_choices(model, one, std::span(all).subspan(s, 1), questions, 512);
    EXPECT_EQ(single[0].log_likelihoods, together[s].log_likelihoods) << all[s]->text();
    EXPECT_EQ(single[0].kv_bytes, together[s].kv_bytes) << all[s]->text();
    EXPECT_EQ(single[0].kept_fraction, together[s].kept_fraction) << all[s]->text();
    EXPECT_EQ(single[0].tokens, 23);  // the prompt: all but the last
  }
}

// With nothing folded the protocol changes nothing: one pass over the whole text says the same, in double.
TEST_P(ChoiceScores, OfTheDenseCacheAreThePlainLogLikelihoods) {
  const auto vocab = static_cast<std::size_t>(model_.config().vocab);
  const auto questions = choices({20, 33});
  const std::vector kv{spec("f32")};
  const auto scores = score_choices(model_, pool_, kv, questions, 512);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    std::vector<Token> whole = questions[i].context;
    whole.insert(whole.end(), questions[i].continuation.begin(), questions[i].continuation.end());
    double expected = 0;
    Session session(model_, pool_, {.spec = kv[0], .context = 600});
    session.score(whole, [&](std::size_t begin, std::span<const float> logits) {
      ASSERT_EQ(begin, 0U);
      for (std::size_t t = questions[i].context.size(); t < whole.size(); ++t) {
        const auto row = logits.subspan((t - 1) * vocab, vocab);
        double sum = 0;
        for (const float x : row) sum += std::exp(static_cast<double>(x));
        expected += static_cast<double>(row[static_cast<std::size_t>(whole[t])]) - std::log(sum);
      }
    });
    // A logit is off by 1e-5 where a step's sums are in another order.
    EXPECT_NEAR(scores[0].log_likelihoods[i], expected, 1e-4 * static_cast<double>(questions[i].continuation.size()));
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, ChoiceScores, testing::Values("llama-gqa", "gemma3"));

}  // namespace
}  // namespace lamina
