// SPDX-License-Identifier: Apache-2.0
#include "engine/retrieval_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"

namespace lamina {
namespace {

// Words, for want of a tokenizer.
std::size_t words(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return c == ' ' || c == '\n'; })) + 1;
}

constexpr RetrievalLength kLength{.tokens = 500, .questions = 3};

ContextQuestions made(const RetrievalTask& task, std::uint64_t seed, int index) {
  return make_retrieval(task, seed, index, kLength, words);
}

std::size_t longest(const ContextQuestions& item) {
  std::size_t most = 0;
  for (const Question& q : item.questions) most = std::max(most, words(item.context + q.text));
  return most;
}

TEST(RetrievalTasks, ItemsAreAsLongAsAsked) {
  for (const RetrievalTask& task : retrieval_tasks())
    for (int i = 0; i < 10; ++i) {
      const ContextQuestions item = made(task, 7, i);
      EXPECT_LE(longest(item), kLength.tokens) << task.name;
      EXPECT_GT(longest(item), kLength.tokens - 30) << task.name;
    }
}

TEST(RetrievalTasks, AreTheSameForASeedAndOthersForAnother) {
  for (const RetrievalTask& task : retrieval_tasks()) {
    const ContextQuestions item = made(task, 7, 3), again = made(task, 7, 3);
    EXPECT_EQ(item.context, again.context) << task.name;
    ASSERT_EQ(item.questions.size(), again.questions.size());
    for (std::size_t q = 0; q < item.questions.size(); ++q) {
      EXPECT_EQ(item.questions[q].text, again.questions[q].text) << task.name;
      EXPECT_EQ(item.questions[q].answers, again.questions[q].answers) << task.name;
    }
    EXPECT_NE(item.context, made(task, 8, 3).context) << task.name;
    EXPECT_NE(item.context, made(task, 7, 4).context) << task.name;
  }
}

TEST(RetrievalTasks, AnswersStandInTheContextAndNotInTheQuestion) {
  for (const RetrievalTask& task : retrieval_tasks())
    for (int i = 0; i < 10; ++i) {
      const ContextQuestions item = made(task, 1, i);
      ASSERT_FALSE(item.questions.empty());
      EXPECT_LE(item.questions.size(), 3U);
      for (const Question& q : item.questions) {
        EXPECT_GT(q.tokens, 0);
        EXPECT_EQ(found_share(item.context, q.answers), 1) << task.name;
        EXPECT_EQ(found_share(q.text, q.answers), 0) << task.name << ": " << q.text;
        EXPECT_GE(q.depth, 0);
        EXPECT_LT(q.depth, 1);
      }
    }
}

TEST(RetrievalTasks, NoAnswerOrQuestionIsThereTwice) {
  for (const RetrievalTask& task : retrieval_tasks())
    for (int i = 0; i < 10; ++i) {
      std::set<std::string> answers, texts;
      std::size_t all = 0;
      const ContextQuestions item = made(task, 1, i);
      for (const Question& q : item.questions) {
        texts.insert(q.text);
        answers.insert(q.answers.begin(), q.answers.end());
        all += q.answers.size();
      }
      EXPECT_EQ(answers.size(), all) << task.name;
      EXPECT_EQ(texts.size(), item.questions.size()) << task.name;
    }
}

// What is asked has one answer: the key of each number stands before it alone.
TEST(RetrievalTasks, OfSixteenCodesEachHasAKeyOfItsOwn) {
  const ContextQuestions item = made(retrieval_task("multikey"), 1, 0);
  std::set<std::string> keys;
  std::size_t codes = 0;
  for (std::size_t at = 0; (at = item.context.find("CODE ", at)) != std::string::npos; ++at, ++codes)
    keys.insert(item.context.substr(at, item.context.find(" =", at) - at));
  EXPECT_EQ(codes, 16U);
  EXPECT_EQ(keys.size(), 16U);
}

TEST(RetrievalTasks, AChainIsHiddenInItsOrder) {
  for (int i = 0; i < 10; ++i) {
    const ContextQuestions item = made(retrieval_task("variables"), 1, i);
    for (const Question& q : item.questions) {
      ASSERT_EQ(q.answers.size(), 3U);
      const std::size_t first = item.context.find("= VAR " + q.answers[0] + "\n"),
                        second = item.context.find("VAR " + q.answers[0] + " = VAR " + q.answers[1]),
                        third = item.context.find("VAR " + q.answers[1] + " = VAR " + q.answers[2]);
      EXPECT_LT(first, second);
      EXPECT_LT(second, third);
      EXPECT_NE(third, std::string::npos);
    }
  }
}

TEST(RetrievalTasks, TheCommonWordIsHalfOfTheList) {
  const ContextQuestions item = made(retrieval_task("commonwords"), 1, 0);
  const std::string& common = item.questions.front().answers.front();
  std::size_t times = 0, all = 1;
  for (std::size_t at = 0; (at = item.context.find(' ' + common, at)) != std::string::npos; ++at) ++times;
  all += static_cast<std::size_t>(std::ranges::count(item.context, ','));
  EXPECT_NEAR(static_cast<double>(times) / static_cast<double>(all), 0.5, 0.02);
}

std::string error_of(std::string_view task, std::size_t tokens) {
  try {
    make_retrieval(retrieval_task(task), 1, 0, {.tokens = tokens, .questions = 1}, words);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(RetrievalTasks, TooShortALengthAndUnknownNamesAreErrors) {
  for (const RetrievalTask& task : retrieval_tasks()) {
    EXPECT_TRUE(error_of(task.name, 5).starts_with("a " + std::string(task.name) + " item needs at least "));
    EXPECT_EQ(error_of(task.name, 400), "");
  }
  EXPECT_NE(error_of("haystack", 400).find("--task is \"haystack\", expected all or some of needle, multikey"),
            std::string::npos);
}

TEST(FoundShare, CountsExpectedStringsWhateverTheirCase) {
  EXPECT_EQ(found_share("Rome, then PARIS.", {"Paris", "Rome"}), 1);
  EXPECT_EQ(found_share("Rome, then PARIS.", {"Paris", "Lima"}), 0.5);
  EXPECT_EQ(found_share("", {"Paris"}), 0);
  EXPECT_EQ(found_share("1234", {"12345"}), 0);
}

}  // namespace
}  // namespace lamina
