// SPDX-License-Identifier: Apache-2.0
// Every layer map x token policy x format, on a tiny model of each architecture: what must hold of all of them.
// (Row by row, tests/kv/sequence_test.cpp holds each against a naive model of the store.)
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "engine/session.h"

namespace lamina {
namespace {

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

const char* const kTokens[] = {"", "streaming(sinks=2,window=9)", "window(sinks=2,window=9)", "window(keep=50%)"};
const char* const kBits[] = {"f32", "f16", "bf16", "k8v8", "k8v4", "k4v4"};
const char* const kGrids[] = {"", "grid(16)"};

class SpecMatrix : public ::testing::TestWithParam<std::tuple<const char*, int>> {
 protected:
  void SetUp() override {
    const std::string name = std::get<0>(GetParam());
    model_ = std::make_unique<Model>(Model::load(kTiny + name + ".gguf", two_));
    tokens_ = nlohmann::json::parse(std::ifstream(kTiny + name + ".json")).at("tokens").get<std::vector<Token>>();
    while (tokens_.size() < 60) tokens_.push_back(tokens_[tokens_.size() - 37]);
  }

  // The layer maps: none, pairs, and the same pairs from a strategy file.
  std::string layers(int kind) const {
    if (kind == 0) return "";
    const KvShape shape = model_->shape();
    nlohmann::json targets = nlohmann::json::array();
    std::string notation;
    for (int layer = 0; layer < shape.layers; ++layer) {
      const bool shares = layer % 2 == 1 && shape.window(LayerId{layer}) == shape.window(LayerId{layer - 1});
      targets.push_back(shares ? layer - 1 : layer);
      if (layer > 0) notation += '_';
      notation += std::to_string(targets.back().get<int>());
    }
    if (kind == 1) return "map(" + notation + ")";
    const std::string path = ::testing::TempDir() + "matrix_" + std::get<0>(GetParam()) + ".json";
    std::ofstream(path) << nlohmann::json{{"schema", "lamina.kvsharer/1"}, {"map", targets}};
    return "kvsharer(map=" + path + ")";
  }

  struct Result {
    std::vector<float> prompt, decode;  // logits
    KvBytes bytes;
    std::size_t peak;
  };

  Result run(const std::shared_ptr<const KvSpec>& spec, int batch, ThreadPool& pool) {
    Session session(*model_, pool, {.spec = spec, .context = 100, .batch = batch});
    Result result;
    session.score(std::span(tokens_).first(kPrompt), [&](std::size_t, std::span<const float> logits) {
      result.prompt.insert(result.prompt.end(), logits.begin(), logits.end());
    });
    for (std::size_t t = kPrompt; t < tokens_.size(); ++t) {
      const auto logits = session.decode(tokens_[t]);
      result.decode.insert(result.decode.end(), logits.begin(), logits.end());
    }
    result.bytes = session.kv().bytes();
    result.peak = session.peak_bytes();
    return result;
  }

  static constexpr std::size_t kPrompt = 45;
  ThreadPool one_{1}, two_{2};
  std::unique_ptr<Model> model_;
  std::vector<Token> tokens_;
};

TEST_P(SpecMatrix, EveryCombinationHolds) {
  const std::string map = layers(std::get<1>(GetParam()));
  const auto join = [](std::string a, const std::string& b) {
    if (!a.empty() && !b.empty()) a += " + ";
    return a + b;
  };
  const auto parse = [&](const std::string& text) {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, model_->shape()));
  };
  const Result base = run(parse(join(map, "f16")), 16, one_);
  for (const char* tokens : kTokens)
    for (const char* bits : kBits)
      for (const char* grid : kGrids) {
        const auto spec = parse(join(join(join(map, tokens), bits), grid));
        SCOPED_TRACE(spec->text());
        EXPECT_EQ(parse(spec->text())->text(), spec->text());
        const Result a = run(spec, 16, one_);
        for (const auto* logits : {&a.prompt, &a.decode})
          for (const float x : *logits) ASSERT_TRUE(std::isfinite(x));
        // Threads change nothing, and neither do chunks.
        const Result b = run(spec, 16, two_);
        EXPECT_EQ(a.prompt, b.prompt);
        EXPECT_EQ(a.decode, b.decode);
        const Result c = run(spec, 5, two_);
        EXPECT_EQ(a.prompt, c.prompt);
        EXPECT_EQ(a.decode, c.decode);
        // A prompt reads its rows as appended: without a grid its logits are those of the dense cache.
        if (*grid == '\0' && spec->k != Format::kF32) {
          EXPECT_EQ(a.prompt, base.prompt);
        }
        // Every byte is planned, and what is held follows from the rows that live.
        const KvPlan plan = plan_kv(spec, model_->shape(), kPrompt, static_cast<int>(tokens_.size() - kPrompt), 16);
        EXPECT_EQ(a.bytes.total(), plan.steady.total());
        EXPECT_EQ(a.bytes.rows, plan.steady.rows);
        EXPECT_EQ(a.peak, plan.peak_bytes);
        EXPECT_LE(a.bytes.total(), a.peak);
        if (*tokens != '\0' && *bits == 'f') {
          EXPECT_LT(a.bytes.rows, run(parse(join(map, bits)), 16, one_).bytes.rows);
        }
      }
}

INSTANTIATE_TEST_SUITE_P(Models, SpecMatrix,
                         ::testing::Combine(::testing::Values("llama-wide-heads", "gemma3"), ::testing::Range(0, 3)),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + "_map" + std::to_string(std::get<1>(test.param));
                         });

TEST(Session, RefusesWhatTheContextCannotHold) {
  ThreadPool pool(1);
  Model model = Model::load(kTiny + "llama-gqa.gguf", pool);
  const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", model.shape()));
  Session session(model, pool, {.spec = full, .context = 8, .batch = 4});
  EXPECT_THROW(session.prompt(std::vector<Token>{}), Error);
  EXPECT_THROW(session.prompt(std::vector<Token>(9, 1)), Error);
  session.prompt(std::vector<Token>(8, 1));
  EXPECT_THROW(session.decode(1), Error);
  session.reset();
  EXPECT_EQ(session.room(), 8);
  EXPECT_THROW(Session(model, pool, {.spec = full, .context = 8, .batch = 0}), Error);
}

}  // namespace
}  // namespace lamina
