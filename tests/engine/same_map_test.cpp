// SPDX-License-Identifier: Apache-2.0
// One map, told in three ways: by the config of a Hugging Face folder, by map(…) and by a KVSharer strategy file.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/session.h"

namespace lamina {
namespace {

// The logits of a prompt in two steps and of some tokens after it.
std::vector<float> logits(Model& model, ThreadPool& pool, const std::string& spec) {
  const auto parsed = std::make_shared<const KvSpec>(KvSpec::parse(spec, model.shape()));
  Session session(model, pool, {.spec = parsed, .context = 64, .batch = 20});
  std::vector<Token> tokens(40);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>((7 * i * i + 3) % 50);
  std::vector<float> all;
  const auto add = [&](std::size_t, std::span<const float> rows) { all.insert(all.end(), rows.begin(), rows.end()); };
  session.score(std::span(tokens).first(30), add);
  for (const Token token : std::span(tokens).subspan(30)) add(0, session.decode(token));
  return all;
}

class SameMap : public ::testing::TestWithParam<const char*> {
 protected:
  std::string folder_ = std::string(LAMINA_TESTS) + "/golden/hf/" + GetParam();
  ThreadPool pool_{2};
  Model model_ = Model::load(folder_, pool_);
  std::string types_ = nlohmann::json::parse(std::ifstream(folder_ + "/config.json")).at("layer_types");
};

TEST_P(SameMap, TheConfigAndTheTermAgree) {
  const std::vector<float> own = logits(model_, pool_, "full");
  EXPECT_EQ(own, logits(model_, pool_, "map(" + types_ + ")"));
  EXPECT_EQ(KvSpec::parse("map(" + types_ + ")", model_.shape()).text(), "full");
}

INSTANTIATE_TEST_SUITE_P(Folders, SameMap,
                         ::testing::Values("lckv-acyclic", "lckv-cyclic", "lckv-cyclic-nodiag", "lckv-all-upward"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

using SameDownwardMap = SameMap;

TEST_P(SameDownwardMap, TheStrategyFileAgrees) {
  std::vector<int> target;
  for (const LayerType& type : parse_layer_types(types_)) target.push_back(type.target);
  const std::string file = ::testing::TempDir() + "same_map.json";
  std::ofstream(file) << nlohmann::json{{"schema", "lamina.kvsharer/1"}, {"map", target}};
  const std::vector<float> own = logits(model_, pool_, "full");
  EXPECT_EQ(own, logits(model_, pool_, "kvsharer(map=" + file + ")"));
  EXPECT_NE(own, logits(model_, pool_, "map(0_0_0_0)"));
}

INSTANTIATE_TEST_SUITE_P(Folders, SameDownwardMap, ::testing::Values("lckv-acyclic"));

}  // namespace
}  // namespace lamina
