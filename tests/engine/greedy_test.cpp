// SPDX-License-Identifier: Apache-2.0
// Continuations together, and questions asked of a committed cache, against a session that does the same by itself.
#include "engine/greedy.h"

#include <gtest/gtest.h>

#include "engine/ask.h"
#include "engine/retrieval.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

using SpecList = std::vector<std::shared_ptr<const KvSpec>>;

class Greedy : public testing::Test {
 protected:
  SpecList specs(std::initializer_list<const char*> texts) const {
    SpecList all;
    for (const char* text : texts) all.push_back(std::make_shared<KvSpec>(KvSpec::parse(text, model_.shape())));
    return all;
  }
  // The prompt, its commit, the given tokens one by one, then the most likely ones.
  std::vector<Token> alone(const std::shared_ptr<const KvSpec>& spec, const std::vector<Token>& prompt,
                           const std::vector<Token>& given, std::size_t count) {
    Session session(model_, pool_, {.spec = spec, .context = 512});
    std::span<const float> logits = session.prompt(prompt);
    for (const Token token : given) logits = session.decode(token);
    std::vector<Token> said = {most_likely(logits)};
    while (said.size() < count) said.push_back(most_likely(session.decode(said.back())));
    return said;
  }

  ThreadPool pool_{2};
  Model model_ = Model::load(std::string(LAMINA_TESTS "/golden/tiny/llama-gqa.gguf"), pool_);
  Tokenizer tokenizer_ = load_tokenizer(model_.file());
};

const ContextQuestions kItem = {.context = "It rained on the hills. The number of Rome is 123. They went on and on.",
                                .questions = {{.text = "The number is", .answers = {"\x01"}, .tokens = 5},
                                              {.text = " Which? It is", .answers = {"\x01"}, .tokens = 3},
                                              {.text = "A", .answers = {"\x01"}, .tokens = 1}}};

TEST_F(Greedy, TogetherIsAsAlone) {
  const std::vector<Token> prompt = encode(tokenizer_, kItem.context, true, true);
  const SpecList all = specs({"full", "streaming(window=12)", "h2o(heavy=6,recent=6) + k4v4", "map(0_0_2_2)"});
  std::vector<Session> sessions;
  sessions.reserve(all.size());
  std::vector<Continuation> together;
  const auto blocks = std::make_shared<BlockPool>(model_.shape(), 2 * all.size() * most_bytes(model_.shape(), 512));
  for (const auto& spec : all) {
    Session& session =
        sessions.emplace_back(model_, pool_, Session::Options{.spec = spec, .context = 512, .blocks = blocks});
    const Token next = most_likely(session.prompt(prompt));
    together.push_back({.kv = session.kv().fork(), .given = {}, .said = {next}});
    together.push_back({.kv = session.kv().fork(), .given = {1, 2, 3}, .said = {}});
  }
  continue_greedily(model_, pool_, together,
                    [](std::size_t i, std::span<const Token> said) { return said.size() == 4 + i; });
  for (std::size_t i = 0; i < together.size(); ++i)
    EXPECT_EQ(together[i].said, alone(all[i / 2], prompt, together[i].given, 4 + i)) << all[i / 2]->text() << i;
}

TEST_F(Greedy, QuestionsComeAfterTheCommitOrBeforeIt) {
  const SpecList all = specs({"snapkv(keep=16,window=4)", "full", "streaming(window=12) + k8v8"});
  const Asker asker(model_, pool_, tokenizer_, 7);
  const std::vector<Token> context = encode(tokenizer_, kItem.context, true, true);
  const std::vector<Answers> after = asker.ask(all, kItem, Asked::kAfterCommit),
                             before = asker.ask(all, kItem, Asked::kBeforeCommit),
                             in_prompt = asker.ask(all, kItem, Asked::kInPrompt);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(after[i].length, context.size());
    for (std::size_t q = 0; q < kItem.questions.size(); ++q) {
      const Question& question = kItem.questions[q];
      const std::vector<Token> asked = encode(tokenizer_, question.text, true, false);
      std::vector<Token> whole = context;
      whole.insert(whole.end(), asked.begin(), asked.end());
      const std::vector<Token> but_last(whole.begin(), whole.end() - 1);
      const auto said = [&](const std::vector<Token>& prompt, const std::vector<Token>& given) {
        return tokenizer_.decode(alone(all[i], prompt, given, static_cast<std::size_t>(question.tokens)), true);
      };
      EXPECT_EQ(after[i].answers[q].said, said(context, asked)) << all[i]->text() << q;
      EXPECT_EQ(before[i].answers[q].said, said(but_last, {whole.back()})) << all[i]->text() << q;
      EXPECT_EQ(in_prompt[i].answers[q].said, said(whole, {})) << all[i]->text() << q;
      EXPECT_EQ(after[i].answers[q].score, 0);
    }
  }
  EXPECT_LT(after[0].kept_fraction, 0.5);
  EXPECT_EQ(after[1].kept_fraction, 1);
}

TEST_F(Greedy, AnAnswerEndsWhereAllIsFound) {
  ContextQuestions item = kItem;
  const Asker asker(model_, pool_, tokenizer_, 512);
  const std::string said = asker.ask(specs({"full"}), item, Asked::kAfterCommit)[0].answers[0].said;
  item.questions[0].answers = {said.substr(0, 1)};
  const Answer found = asker.ask(specs({"full"}), item, Asked::kAfterCommit)[0].answers[0];
  EXPECT_EQ(found.score, 1);
  EXPECT_LT(found.said.size(), said.size());
  EXPECT_TRUE(said.starts_with(found.said));
}

// A task is reported where the dense cache finds half of what is asked for, whatever the specs find.
TEST_F(Greedy, ATaskIsReportedByItsDenseCache) {
  ContextQuestions item = kItem;
  item.questions.resize(1);
  const SpecList given = specs({"streaming(window=12)", "streaming(window=12) + grid(16)"});
  const Asker asker(model_, pool_, tokenizer_, 512);
  const auto measured = [&] { return measure_retrieval(asker, model_.shape(), given, {&item, 1}); };
  const RetrievalResult nothing = measured();
  EXPECT_FALSE(nothing.is_reported());
  EXPECT_EQ(nothing.dense_found(), 0);
  EXPECT_TRUE(nothing.specs.empty());
  const auto first_of = [&](Asked when) {
    return asker.ask(specs({"full"}), item, when)[0].answers[0].said.substr(0, 1);
  };
  item.questions[0].answers = {first_of(Asked::kAfterCommit), first_of(Asked::kBeforeCommit)};
  const RetrievalResult found = measured();
  EXPECT_TRUE(found.is_reported());
  ASSERT_EQ(found.specs.size(), 2U);
  EXPECT_LT(found.specs[0][0].kept_fraction, 1);
  EXPECT_EQ(found.answers, 1U);
}

}  // namespace
}  // namespace lamina
