// SPDX-License-Identifier: Apache-2.0
#include "engine/comparison.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

using Asked = std::vector<std::pair<std::string, std::string>>;  // (measurement, spec)

// Measurements that note what they are asked for.
class ComparisonTest : public testing::Test {
 protected:
  ComparisonTest()
      : model_(Model::load(LAMINA_TESTS "/golden/tiny/llama-gqa.gguf", pool_)),
        tokenizer_(load_tokenizer(model_.file())) {
    path_ = (std::filesystem::temp_directory_path() / ("lamina_compare_" + std::to_string(::getpid()))).string();
    std::filesystem::remove(path_);
    for (const char* spec : {"full", "k8v8", "k4v4"})
      specs_.push_back(std::make_shared<const KvSpec>(KvSpec::parse(spec, model_.shape())));
    suite_ = {.name = "test", .sizes = {}, .data = {}, .measurements = {}};
    for (const char* name : {"a", "b"}) suite_.measurements.push_back(noting(name, ""));
    suite_.measurements.push_back(noting("model.c", "fastgen"));
    suite_.measurements.push_back(noting("model.d", "map(0_0_0)"));  // of another model
  }
  ~ComparisonTest() override { std::filesystem::remove(path_); }

  Measurement noting(const std::string& name, const std::string& own) {
    return {
        .name = name, .own_spec = own, .prompt_tokens = 10, .run = [this, name](const Subject& subject, Specs specs) {
          std::vector<Outcome> outcomes;
          for (const auto& spec : specs) {
            asked_.emplace_back(name, spec->text());
            outcomes.push_back({.values = {{"of", name + spec->text()}}});
          }
          subject.on_step();
          return outcomes;
        }};
  }

  // What was asked for in a run that is ended after so many calls of its progress.
  Asked run(int most_steps = 1 << 20) {
    ResultsFile file(path_, {});
    asked_.clear();
    states_.clear();
    try {
      compare(suite_, {.model = model_, .tokenizer = tokenizer_, .pool = pool_}, specs_, file,
              [&](const CompareState& state) {
                states_.push_back(state);
                require(--most_steps >= 0, "ended");
              });
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "ended");
    }
    results_ = file.results();
    return asked_;
  }

  ThreadPool pool_{1};
  Model model_;
  Tokenizer tokenizer_;
  std::string path_;
  std::vector<std::shared_ptr<const KvSpec>> specs_;
  Suite suite_;
  Asked asked_;
  std::vector<CompareState> states_;
  std::vector<Result> results_;
};

const Asked kAll = {{"a", "full"}, {"a", "k8v8"}, {"a", "k4v4"},         {"b", "full"},
                    {"b", "k8v8"}, {"b", "k4v4"}, {"model.c", "fastgen"}};

TEST_F(ComparisonTest, MeasuresEachOnceAndInOrder) {
  EXPECT_EQ(run(), kAll);
  ASSERT_EQ(results_.size(), kAll.size() + 1);
  for (std::size_t i = 0; i < kAll.size(); ++i) {
    EXPECT_EQ(std::pair(results_[i].measurement, results_[i].kv_spec), kAll[i]);
    EXPECT_EQ(results_[i].values["of"], kAll[i].first + kAll[i].second);
    EXPECT_EQ(results_[i].timing["threads"], 1);
    EXPECT_GE(results_[i].timing["seconds"].get<double>(), 0);
  }
  const auto why = results_.back().values["unavailable"].get<std::string>();
  EXPECT_NE(why.find("map"), std::string::npos) << why;
  EXPECT_EQ(run(), Asked{});
}

TEST_F(ComparisonTest, GoesOnWhereItWasEnded) {
  run();
  const std::vector<Result> whole = results_;
  std::set<std::size_t> sizes;
  for (int steps = 0; steps < 6; ++steps) {
    std::filesystem::remove(path_);
    run(steps);
    sizes.insert(results_.size());
    run();
    ASSERT_EQ(results_.size(), whole.size());
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(results_[i].values, whole[i].values);
      EXPECT_EQ(results_[i].kv_key, whole[i].kv_key);
    }
  }
  EXPECT_EQ(sizes, (std::set<std::size_t>{0, 3, 6}));  // ended before, within and between measurements
}

TEST_F(ComparisonTest, AnotherSpecIsMeasuredAlone) {
  const auto k4v4 = specs_.back();
  specs_.pop_back();
  run();
  specs_.push_back(k4v4);
  EXPECT_EQ(run(), (Asked{{"a", "k4v4"}, {"b", "k4v4"}}));
}

TEST_F(ComparisonTest, TellsHowFarItIs) {
  run();
  ASSERT_FALSE(states_.empty());
  EXPECT_LT(states_.front().seconds_left, 0);  // nothing to go by
  for (const CompareState& state : states_) {
    EXPECT_EQ(state.measurements, 4U);
    EXPECT_LT(state.done, 4U);
    EXPECT_TRUE(state.done == 0 || state.seconds_left >= 0);
  }
  EXPECT_EQ(states_.back().done, 3U);
}

TEST(SuiteTest, LengthsFitTheContext) {
  for (const std::string& name : suite_names())
    for (const Pos context : {64, 256, 512, 2048, 8192, 131072}) {
      const SuiteSizes s = SuiteSizes::of(name, context);
      EXPECT_LE(s.prompt + s.scored, context);
      EXPECT_LE(s.sample_prompt + s.sample_tokens, context);
      EXPECT_LE(s.item_tokens, context / 2);
      EXPECT_LE(s.retrieval_tokens, context / 2);
      EXPECT_FALSE(s.depths.empty());
      for (const Pos depth : s.depths) EXPECT_LE(depth + s.speed_tokens, context);
    }
  EXPECT_EQ(SuiteSizes::of("quick", 8192).prompt, 1024);
  EXPECT_EQ(SuiteSizes::of("quick", 8192).depths, (std::vector<Pos>{1024, 4096}));
  EXPECT_EQ(SuiteSizes::of("full", 512).questions, 0);
}

}  // namespace
}  // namespace lamina
