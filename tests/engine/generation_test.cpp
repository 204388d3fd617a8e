// SPDX-License-Identifier: Apache-2.0
#include "engine/generation.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace lamina {
namespace {

TEST(FinalNumber, StandsAfterTheMarkOrLast) {
  EXPECT_EQ(final_number("2 + 2 = 5 so\n#### 4"), "4");
  EXPECT_EQ(final_number("#### 1,234,567\nand 8"), "1234567");
  EXPECT_EQ(final_number("#### $70,000.00"), "70000");
  EXPECT_EQ(final_number("#### -3"), "-3");
  EXPECT_EQ(final_number("#### 2.50"), "2.5");
  EXPECT_EQ(final_number("first 12, then 1,300."), "1300");
  EXPECT_EQ(final_number("it is 0.75"), "0.75");
  EXPECT_EQ(final_number("it is 7 ####"), "7");
  EXPECT_EQ(final_number("none"), "");
}

constexpr const char* kLine = R"({"question": "One?", "answer": "#### 1"})";

TEST(Questions, ShowTheFirstAndAskTheOthers) {
  const std::string text = std::string(kLine) + "\n" + R"({"question": "Two?", "answer": "It is 2.\n#### 2"})" +
                           "\n\n" + R"({"question": "Three?", "answer": "#### 3", "more": 1})";
  const auto items = read_questions("q.jsonl", text, {.shots = 1});
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0].prompt, "Question: One?\nAnswer: #### 1\n\nQuestion: Two?\nAnswer:");
  EXPECT_EQ(items[0].answer, "2");
  EXPECT_EQ(items[1].answer, "3");
  EXPECT_EQ(read_questions("q.jsonl", text, {.shots = 0, .limit = 2}).size(), 2U);
}

std::string error_of(const std::string& text, int shots = 0) {
  try {
    read_questions("q.jsonl", text, {.shots = shots});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Questions, LinesThatAreNoneAreErrors) {
  const std::string line = std::string(kLine) + "\n";
  EXPECT_TRUE(error_of(line + "{\"question\": ").starts_with("q.jsonl: line 2: not JSON"));
  EXPECT_TRUE(error_of(line + "[1]").starts_with("q.jsonl: line 2: no string \"question\""));
  EXPECT_TRUE(error_of(line + R"({"question": "a"})").starts_with("q.jsonl: line 2: no string \"answer\""));
  EXPECT_EQ(error_of(line + R"({"question": "a", "answer": "b"})"), "q.jsonl: line 2: \"answer\" names no number");
  EXPECT_TRUE(error_of(line, 1).starts_with("q.jsonl: 1 questions, 1 of them are to be shown"));
}

TEST(GenerationScore, AveragesItems) {
  Generated same{.text = "a", .tokens = {1}}, other{.text = "b", .tokens = {2}};
  same.agrees = true;
  other.rouge_l = 0.5;
  other.repetition = 0.25;
  other.first_difference = 6;
  const std::vector<Generated> items = {same, other, other, same};
  const GenerationScore score = summarize(items);
  EXPECT_DOUBLE_EQ(score.rouge_l, 0.75);
  EXPECT_DOUBLE_EQ(score.repetition, 0.125);
  EXPECT_DOUBLE_EQ(score.same, 0.5);
  EXPECT_DOUBLE_EQ(score.agreement, 0.5);
  EXPECT_EQ(score.first_difference, 6.0);
  EXPECT_EQ(summarize(std::vector<Generated>{same}).first_difference, std::nullopt);
}

}  // namespace
}  // namespace lamina
