// SPDX-License-Identifier: Apache-2.0
// Prompts against those that lm-evaluation-harness makes of the same lines (tools/lm_eval_reference.py).
#include "engine/choice_task.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "engine/choice_data.h"

namespace lamina {
namespace {

const std::string kGolden = LAMINA_TESTS "/golden/lm_eval/";

TEST(ChoiceTask, PromptsAreTheHarnesssOwn) {
  const auto golden = nlohmann::json::parse(std::ifstream(kGolden + "requests.json"));
  EXPECT_EQ(golden.size(), choice_tasks().size());
  for (const ChoiceTask& task : choice_tasks())
    for (const int shots : {0, 2}) {
      SCOPED_TRACE(fmt::format("{}, {} shots", task.name, shots));
      const auto& expected = golden.at(task.name).at(std::to_string(shots));
      const auto items =
          read_choices({.task = task.name, .file = kGolden + "data/" + task.name + ".jsonl", .shots = shots});
      ASSERT_EQ(items.size(), expected.size());
      for (std::size_t i = 0; i < items.size(); ++i) {
        ASSERT_EQ(items[i].choices.size(), expected[i].size());
        for (std::size_t choice = 0; choice < expected[i].size(); ++choice) {
          EXPECT_EQ(items[i].choices[choice].context, expected[i][choice][0].get<std::string>());
          EXPECT_EQ(items[i].choices[choice].continuation, expected[i][choice][1].get<std::string>());
        }
      }
    }
}

ChoiceItem item_of(const std::string& task, const std::string& line) {
  return choice_task(task).item({"x.jsonl: line 1", nlohmann::json::parse(line)});
}

std::string error_of(const std::string& task, const std::string& line) {
  try {
    item_of(task, line);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_same(const ChoiceItem& a, const ChoiceItem& b) {
  EXPECT_EQ(a.answer, b.answer);
  ASSERT_EQ(a.choices.size(), b.choices.size());
  for (std::size_t i = 0; i < a.choices.size(); ++i) {
    EXPECT_EQ(a.choices[i].context, b.choices[i].context);
    EXPECT_EQ(a.choices[i].continuation, b.choices[i].continuation);
    EXPECT_EQ(a.choices[i].characters, b.choices[i].characters);
  }
}

// The same question as the authors of a data set publish it and as Hugging Face has it.
TEST(ChoiceTask, AuthorsFilesAreReadToo) {
  expect_same(item_of("arc_easy", R"({"question": {"stem": "Who?", "choices": [{"text": "me", "label": "A"},
                                      {"text": "you", "label": "B"}]}, "answerKey": "B"})"),
              item_of("arc_easy", R"({"question": "Who?", "choices": {"text": ["me", "you"], "label": ["A", "B"]},
                                      "answerKey": "B"})"));
  expect_same(item_of("winogrande", R"({"context_options": ["As he", "As she"], "continuation": "ran.", "gold": 1})"),
              item_of("winogrande", R"({"sentence": "As _ ran.", "option1": "he", "option2": "she", "answer": "2"})"));
  expect_same(item_of("boolq", R"({"passage": "P", "question": "is q", "answer": true})"),
              item_of("boolq", R"({"passage": "P", "question": "is q", "label": 1})"));
}

TEST(ChoiceTask, LabelsAreNumbersOrStrings) {
  const std::string line = R"({"ctx_a": "A", "ctx_b": "b", "activity_label": "C", "endings": ["x", "y"], "label": )";
  EXPECT_EQ(item_of("hellaswag", line + "1}").answer, 1U);
  EXPECT_EQ(item_of("hellaswag", line + "\"1\"}").answer, 1U);
  for (const char* const bad : {"2", "-1", "\"2\"", "\"\"", "\"1 \"", "null", "1.0"})
    EXPECT_TRUE(error_of("hellaswag", line + bad + "}").starts_with("x.jsonl: line 1: label is ")) << bad;
}

// Code points, as Python counts a text's length; of winogrande those of what is scored.
TEST(ChoiceTask, LengthsAreCharacters) {
  const ChoiceItem piqa = item_of("piqa", R"({"goal": "g", "sol1": "café – 1", "sol2": "", "label": 0})");
  EXPECT_EQ(piqa.choices[0].characters, 8U);
  EXPECT_EQ(piqa.choices[1].characters, 0U);
  const ChoiceItem winogrande =
      item_of("winogrande", R"({"sentence": "As _ ran. ", "option1": "he", "option2": "she", "answer": "2"})");
  EXPECT_EQ(winogrande.choices[0].characters, 4U);
  EXPECT_EQ(winogrande.choices[1].characters, 4U);
}

TEST(ChoiceTask, WhatIsMissingOrWrongIsNamed) {
  EXPECT_EQ(error_of("piqa", R"({"goal": "g", "sol1": "a", "label": 0})"),
            "x.jsonl: line 1: sol2 is missing or null, expected a string");
  EXPECT_EQ(error_of("piqa", R"({"goal": 3, "sol1": "a", "sol2": "b", "label": 0})"),
            "x.jsonl: line 1: goal is 3, expected a string");
  EXPECT_EQ(error_of("arc_easy",
                     R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"})"),
            "x.jsonl: line 1: answerKey is \"C\", expected one of A, B");
  EXPECT_EQ(
      error_of("arc_easy", R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"})"),
      "x.jsonl: line 1: choices.label is [\"A\"], expected at least 2 strings");
  EXPECT_EQ(
      error_of("arc_easy",
               R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}, "answerKey": "A"})"),
      "x.jsonl: line 1: choices.label is [\"A\",\"B\",\"C\"], expected 2 labels, one of each text");
  EXPECT_EQ(error_of("arc_easy", R"({"question": {"stem": "q", "choices": []}, "answerKey": "A"})"),
            "x.jsonl: line 1: question.choices is [], expected at least 2 choices");
  EXPECT_EQ(error_of("winogrande", R"({"sentence": "no blank", "option1": "a", "option2": "b", "answer": "1"})"),
            "x.jsonl: line 1: sentence is \"no blank\", expected a \"_\" in it");
  EXPECT_EQ(error_of("winogrande", R"({"sentence": "_", "option1": "a", "option2": "b", "answer": ""})"),
            "x.jsonl: line 1: answer is \"\", expected \"1\" or \"2\"");
  EXPECT_EQ(
      error_of("copa", R"({"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "why", "label": 0})"),
      "x.jsonl: line 1: question is \"why\", expected \"cause\" or \"effect\"");
  EXPECT_EQ(
      error_of("copa", R"({"premise": "It rained.", "choice1": "a", "choice2": "", "question": "cause", "label": 0})"),
      "x.jsonl: line 1: choice2 is \"\", expected a text");
  EXPECT_EQ(error_of("boolq", R"({"passage": "P", "question": "q"})"),
            "x.jsonl: line 1: label is missing or null, expected 0 or 1, or true or false in \"answer\"");
  EXPECT_NE(error_of("commonsenseqa",
                     R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"})")
                .find("expected five choices"),
            std::string::npos);
  EXPECT_THROW(choice_task("pika"), Error);
}

}  // namespace
}  // namespace lamina
