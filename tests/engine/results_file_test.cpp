// SPDX-License-Identifier: Apache-2.0
#include "engine/results_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace lamina {
namespace {

const ResultsOrigin kOrigin{
    .model = "m\"odel", .model_id = "1234", .version = "v1", .machine = "cpu", .suite = "quick", .data = "abcd"};

Result result(const std::string& spec, const std::string& measurement, double x) {
  return {.kv_spec = spec,
          .kv_key = spec + "#",
          .measurement = measurement,
          .values = {{"z", x}, {"a", nullptr}, {"list", {1, 2.5}}},
          .timing = {{"seconds", 2 * x}}};
}

class ResultsFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("lamina_results_" + std::to_string(::getpid()));
    std::filesystem::create_directory(folder_);
    path_ = (folder_ / "r.jsonl").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path_, std::ios::binary).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  std::string error(const ResultsOrigin& origin = kOrigin) const {
    try {
      const ResultsFile file(path_, origin);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(ResultsFileTest, HasWhatWasAppended) {
  const std::vector<Result> all = {result("full", "a", 0.1), result("k8v8", "a", 1.0 / 3),
                                   result("full", "b", -1e-300)};
  {
    ResultsFile file(path_, kOrigin);
    for (const Result& r : all) file.append(r);
    EXPECT_EQ(file.results(), all);
  }
  const ResultsFile file(path_, kOrigin);
  EXPECT_EQ(file.results(), all);
  ASSERT_NE(file.find("k8v8#", "a"), nullptr);
  EXPECT_EQ(*file.find("k8v8#", "a"), all[1]);
  EXPECT_EQ(file.find("k8v8", "a"), nullptr);  // the key counts, not the text
  EXPECT_EQ(file.find("k8v8#", "b"), nullptr);
}

TEST_F(ResultsFileTest, AnyTextOfAModelStaysOneLine) {
  ResultsFile file(path_, kOrigin);
  Result r = result("full", "a", 1);
  r.values["text"] = "two\nlines \xe2\x82 torn";
  file.append(r);
  const std::string text = content();
  EXPECT_EQ(std::ranges::count(text, '\n'), 1);
  EXPECT_EQ(file.results()[0].values["text"], "two\nlines \xef\xbf\xbd torn");  // as a later run reads it
}

// Wherever a kill has cut the file, the whole lines before are kept, and appending goes on after them.
TEST_F(ResultsFileTest, DropsATornLastLine) {
  {
    ResultsFile file(path_, kOrigin);
    file.append(result("full", "a", 1));
    file.append(result("k8v8", "a", 2));
  }
  const std::string whole = content();
  const std::size_t first = whole.find('\n') + 1;
  for (std::size_t size = 0; size < whole.size(); size += 11) {
    write(whole.substr(0, size));
    ResultsFile file(path_, kOrigin);
    const std::size_t lines = size >= first ? 1 : 0;
    ASSERT_EQ(file.results().size(), lines) << size;
    if (lines == 0) file.append(result("full", "a", 1));
    file.append(result("k8v8", "a", 2));
    ASSERT_EQ(content(), whole) << size;
  }
}

TEST_F(ResultsFileTest, RefusesResultsOfAnotherOrigin) {
  ResultsFile(path_, kOrigin).append(result("full", "a", 1));
  const std::string before = content();
  for (const auto& [name, field] : {std::pair("model", &ResultsOrigin::model),
                                    {"model_id", &ResultsOrigin::model_id},
                                    {"version", &ResultsOrigin::version},
                                    {"machine", &ResultsOrigin::machine},
                                    {"suite", &ResultsOrigin::suite},
                                    {"data", &ResultsOrigin::data}}) {
    ResultsOrigin other = kOrigin;
    other.*field = "other";
    const std::string message = error(other);
    EXPECT_TRUE(message.find(std::string(": line 1: \"") + name + "\" is ") != std::string::npos) << message;
    EXPECT_TRUE(message.find("this run's is \"other\"") != std::string::npos) << message;
    EXPECT_EQ(content(), before);
  }
}

TEST_F(ResultsFileTest, RefusesOtherFilesAndLeavesThemAlone) {
  ResultsFile(path_, kOrigin).append(result("full", "a", 1));
  const std::string line = content();
  for (const std::string& text :
       {std::string("notes without an end"), std::string("{}\n"), std::string("[]\n"), std::string("\n"),
        line + "more\n", line + "{\"schema\":\"other", line.substr(0, line.size() - 2) + ",\"values\":1}\n"}) {
    write(text);
    EXPECT_NE(error(), "") << text;
    EXPECT_EQ(content(), text);
  }
}

TEST_F(ResultsFileTest, IsWrittenByOneProcessOnly) {
  ResultsFile file(path_, kOrigin);
  EXPECT_NE(error().find("another process"), std::string::npos);
}

TEST_F(ResultsFileTest, RefusesWhatIsNoFile) {
  path_ = "/dev/full";
  EXPECT_EQ(error(), "/dev/full: not a regular file, expected one for results");
  path_ = (folder_ / "none" / "r.jsonl").string();
  EXPECT_NE(error().find("none/r.jsonl: cannot be written"), std::string::npos);
}

// A disk that is full in the midst of a line.
TEST_F(ResultsFileTest, KeepsWholeLinesWhenTheDiskIsFull) {
  ResultsFile file(path_, kOrigin);
  file.append(result("full", "a", 1));
  const std::string before = content();
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{.rlim_cur = before.size() + 20, .rlim_max = old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(file.append(result("k8v8", "a", 2)), Error);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(content(), before);
  EXPECT_EQ(file.results().size(), 1U);
  file.append(result("k8v8", "a", 2));
  EXPECT_EQ(file.results().size(), 2U);
}

}  // namespace
}  // namespace lamina
