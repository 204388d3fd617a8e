// SPDX-License-Identifier: Apache-2.0
#include "engine/choice_data.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"

namespace lamina {
namespace {

class ChoiceDataTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / name) << content;
    return folder_ / name;
  }
  // Goals "g1" … "gN" in lines 1 … N.
  std::string piqa(const std::string& name, int lines) const {
    std::string text;
    for (int i = 1; i <= lines; ++i)
      text += fmt::format(R"({{"goal": "g{0}", "sol1": "a{0}", "sol2": "b{0}", "label": {1}}})", i, i % 2) + "\n";
    return file(name, text);
  }
  std::string error_of(const ChoiceData& data) const {
    try {
      read_choices(data);
    } catch (const Error& error) {
      const std::string text = error.what(), folder = folder_.string() + "/";
      std::string plain;
      for (std::size_t at = 0; at < text.size();)
        if (text.compare(at, folder.size(), folder) == 0)
          at += folder.size();
        else
          plain += text[at++];
      return plain;
    }
    return "no error";
  }

 private:
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() /
      fmt::format("lamina_choice_{}_{}", ::getpid(), ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::vector<int> lines_of(const std::vector<ChoiceItem>& items) {
  std::vector<int> lines;
  lines.reserve(items.size());
  for (const ChoiceItem& item : items) lines.push_back(item.line);
  return lines;
}

TEST_F(ChoiceDataTest, ItemsInOrderUpToALimit) {
  const std::string path = file("x.jsonl",
                                "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 1}\r\n\n"
                                "{\"goal\": \"h\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": \"0\"}");
  EXPECT_EQ(lines_of(read_choices({.task = "piqa", .file = path})), (std::vector{1, 3}));
  EXPECT_EQ(lines_of(read_choices({.task = "piqa", .file = path, .limit = 1})), (std::vector{1}));
  EXPECT_EQ(lines_of(read_choices({.task = "piqa", .file = path, .limit = 9})), (std::vector{1, 3}));
}

TEST_F(ChoiceDataTest, ShotsAreTheFirstAndNoQuestions) {
  const std::string path = piqa("x.jsonl", 5);
  const auto items = read_choices({.task = "piqa", .file = path, .limit = 2, .shots = 2});
  EXPECT_EQ(lines_of(items), (std::vector{3, 4}));
  EXPECT_EQ(items[0].choices[1].context,
            "Question: g1\nAnswer: b1\n\nQuestion: g2\nAnswer: a2\n\nQuestion: g3\nAnswer:");
}

TEST_F(ChoiceDataTest, ShotsOfAnotherFileLeaveAllQuestions) {
  const std::string path = piqa("x.jsonl", 3), other = piqa("y.jsonl", 2);
  const auto items = read_choices({.task = "piqa", .file = path, .shots = 2, .shots_file = other});
  EXPECT_EQ(lines_of(items), (std::vector{1, 2, 3}));
  EXPECT_TRUE(items[0].choices[0].context.starts_with("Question: g1\nAnswer: b1\n\nQuestion: g2\nAnswer: a2\n\n"));
  EXPECT_EQ(lines_of(read_choices({.task = "piqa", .file = path, .shots = 2, .shots_file = path})), (std::vector{3}));
}

TEST_F(ChoiceDataTest, ASeedDrawsTheShots) {
  const std::string path = piqa("x.jsonl", 40);
  std::set<std::string> contexts;
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    const ChoiceData data{.task = "piqa", .file = path, .shots = 3, .seed = seed};
    const auto items = read_choices(data), again = read_choices(data);
    EXPECT_EQ(items.size(), 37U);
    EXPECT_TRUE(std::ranges::is_sorted(lines_of(items)));
    const std::string& context = items[0].choices[0].context;
    EXPECT_EQ(context, again[0].choices[0].context);
    contexts.insert(context);
    for (const ChoiceItem& item : items)  // no question is among its own examples
      EXPECT_EQ(context.substr(0, context.rfind("Question: ")).find(fmt::format("Question: g{}\n", item.line)),
                std::string::npos);
  }
  EXPECT_EQ(contexts.size(), 4U);
}

TEST_F(ChoiceDataTest, LabelsMayBeInAFileBeside) {
  const std::string line = "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n";
  const std::string path = file("valid.jsonl", line + "\n" + line);
  EXPECT_EQ(error_of({.task = "piqa", .file = path}),
            "valid.jsonl: line 1: \"label\" is missing, and there is no valid-labels.lst");
  file("valid-labels.lst", "0\n1\n1\n");
  const auto items = read_choices({.task = "piqa", .file = path});
  EXPECT_EQ(items[0].answer, 0U);
  EXPECT_EQ(items[1].answer, 1U);
  file("valid-labels.lst", "0\n1\n");
  EXPECT_EQ(error_of({.task = "piqa", .file = path}),
            "valid-labels.lst: 2 lines, expected a label of line 3 of valid.jsonl");
  file("valid-labels.lst", "2\n1\n1\n");
  EXPECT_EQ(error_of({.task = "piqa", .file = path}), "valid-labels.lst: line 1: \"2\", expected 0 or 1");
}

TEST_F(ChoiceDataTest, ErrorsNameTheLine) {
  const std::string good = "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 1}\n";
  const auto error = [&](const std::string& content) {
    return error_of({.task = "piqa", .file = file("x.jsonl", content)});
  };
  EXPECT_EQ(error(good + "{\"goal\""), "x.jsonl: line 2: not JSON at byte 7 of 7");
  EXPECT_EQ(error(good + "[1]\n"), "x.jsonl: line 2: [1], expected an object");
  EXPECT_EQ(error(good + "\n{\"goal\": \"g\", \"label\": 0}\n"),
            "x.jsonl: line 3: sol1 is missing or null, expected a string");
  EXPECT_EQ(error("\n\n"), "x.jsonl: no items");
  EXPECT_EQ(error_of({.task = "piqa", .file = "/none/x.jsonl"}),
            "/none/x.jsonl: cannot open: No such file or directory");
  const std::string path = piqa("x.jsonl", 3);
  EXPECT_EQ(error_of({.task = "piqa", .file = path, .shots = 3}),
            "x.jsonl: 3 items, expected 4 for 3 shots and a question");
  EXPECT_EQ(error_of({.task = "piqa", .file = path, .shots = 4, .shots_file = piqa("y.jsonl", 3)}),
            "y.jsonl: 3 items, expected 4 for 4 shots");
}

}  // namespace
}  // namespace lamina
