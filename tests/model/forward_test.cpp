// SPDX-License-Identifier: Apache-2.0
// The forward pass against Hugging Face transformers, and the promises that do not need a judge: chunks, batches,
// threads, maps and the cache leave the logits alone. Goldens: tools/golden_logits.py.
#include "model/forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace lamina {
namespace {

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

struct Golden {
  explicit Golden(const std::string& name) : path(kTiny + name + ".gguf") {
    const auto json = nlohmann::json::parse(std::ifstream(kTiny + name + ".json"));
    tokens = json.at("tokens").get<std::vector<Token>>();
    logits.resize(tokens.size() * json.at("vocab").get<std::size_t>());
    std::ifstream in(kTiny + name + ".logits.f32", std::ios::binary);
    in.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size() * 4));
    EXPECT_TRUE(in.good()) << name;
  }

  std::string path;
  std::vector<Token> tokens;
  std::vector<float> logits;  // [token][vocab]
};

// One sequence fed in steps of the given sizes, then one token at a time; commits as a session does.
std::vector<float> run(Model& model, ThreadPool& pool, const std::string& text, std::span<const Token> tokens,
                       std::size_t prompt, std::size_t batch) {
  const auto spec = std::make_shared<KvSpec>(KvSpec::parse(text, model.shape()));
  BlockPool blocks(model.shape(), std::size_t{1} << 28);
  KvSequence kv(spec, model.shape(), blocks);
  Workspace work;
  std::vector<float> all;
  for (std::size_t done = 0; done < tokens.size();) {
    const bool decode = done >= prompt;
    std::size_t n = decode ? 1 : std::min(batch, prompt - done);
    if (!decode) n = static_cast<std::size_t>(kv.prompt_step(static_cast<Pos>(n), static_cast<int>(n)));
    const Chunk chunk{.kv = &kv, .tokens = tokens.subspan(done, n), .logits = Chunk::Logits::kAll};
    const auto logits = model.forward({&chunk, 1}, work, pool);
    all.insert(all.end(), logits.begin(), logits.end());
    done += n;
    kv.commit(decode ? Phase::kDecode : done == prompt ? Phase::kPromptEnd : Phase::kPrompt, static_cast<int>(n));
  }
  return all;
}

float max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    EXPECT_TRUE(std::isfinite(a[i]));
    most = std::max(most, std::fabs(a[i] - b[i]));
  }
  return most;
}

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kTiny))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

// "map(0_0_2_2_…)": every odd layer reads the one below, where their windows allow it.
std::string pairs_map(const KvShape& shape) {
  std::string text = "map(";
  for (int layer = 0; layer < shape.layers; ++layer) {
    const bool shares = layer % 2 == 1 && shape.window(LayerId{layer}) == shape.window(LayerId{layer - 1});
    if (layer > 0) text += '_';
    text += std::to_string(shares ? layer - 1 : layer);
  }
  return text + ")";
}

class TinyModel : public ::testing::TestWithParam<std::string> {};

TEST_P(TinyModel, LogitsEqualHuggingFace) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  Model model = Model::load(golden.path, pool);
  // f32 rows: the cache adds no rounding of its own. 1e-4 as the golden's float64 run leaves float32's rounding to us.
  EXPECT_LE(max_difference(run(model, pool, "f32", golden.tokens, golden.tokens.size(), 512), golden.logits), 1e-4F);
  EXPECT_LE(max_difference(run(model, pool, "f32", golden.tokens, 5, 3), golden.logits), 1e-4F);
}

// Attention sums the rows of a float format in one order, however a text is cut into steps; products do so anyway.
TEST_P(TinyModel, ChunksChangeNothing) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  Model model = Model::load(golden.path, pool);
  const std::size_t n = golden.tokens.size();
  for (const std::string& spec : {std::string("full"), std::string("k8v8"), pairs_map(model.shape())}) {
    const auto whole = run(model, pool, spec, golden.tokens, n, n);
    for (const std::size_t batch : {std::size_t{1}, std::size_t{7}, std::size_t{16}})
      EXPECT_EQ(max_difference(run(model, pool, spec, golden.tokens, n, batch), whole), 0) << spec << " " << batch;
  }
}

TEST_P(TinyModel, PromptLogitsEqualFullForEverySpec) {
  const Golden golden(GetParam());
  ThreadPool pool(1);
  Model model = Model::load(golden.path, pool);
  const std::size_t n = golden.tokens.size();
  const auto full = run(model, pool, "full", golden.tokens, n, 9);
  for (const char* spec : {"k8v8", "k4v4", "streaming(sinks=2,window=4) + k8v4", "window(sinks=1,window=3)"})
    EXPECT_EQ(max_difference(run(model, pool, spec, golden.tokens, n, 9), full), 0) << spec;
}

TEST_P(TinyModel, PromptThenDecodeEqualsOnePass) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  Model model = Model::load(golden.path, pool);
  const std::size_t n = golden.tokens.size();
  const std::string map = pairs_map(model.shape());
  for (const std::string& spec : {std::string("full"), std::string("f32"), map, map + " + f32"})
    EXPECT_EQ(max_difference(run(model, pool, spec, golden.tokens, 3, 2), run(model, pool, spec, golden.tokens, n, n)),
              0)
        << spec;
}

TEST_P(TinyModel, ThreadsAndBatchesChangeNothing) {
  const Golden golden(GetParam());
  ThreadPool one(1), three(3);
  Model model = Model::load(golden.path, one);
  const std::size_t n = golden.tokens.size();
  const std::string map = pairs_map(model.shape());
  const std::vector<std::string> specs = {"full", map, "k8v8", "f32"};
  const auto alone = run(model, one, map, golden.tokens, n, 11);
  EXPECT_EQ(run(model, three, map, golden.tokens, n, 11), alone);

  // The same chunks beside other sequences with other specs and lengths.
  BlockPool blocks(model.shape(), std::size_t{1} << 28);
  std::vector<KvSequence> kvs;
  for (const auto& spec : specs)
    kvs.emplace_back(std::make_shared<KvSpec>(KvSpec::parse(spec, model.shape())), model.shape(), blocks);
  Workspace work;
  std::vector<float> beside;
  const std::vector<Token> others(golden.tokens.rbegin(), golden.tokens.rend());
  for (std::size_t done = 0; done < n;) {
    const std::size_t m = std::min<std::size_t>(11, n - done);
    std::vector<Chunk> chunks;
    for (std::size_t s = 0; s < kvs.size(); ++s)
      chunks.push_back(s == 1 ? Chunk{&kvs[s], std::span(golden.tokens).subspan(done, m), Chunk::Logits::kAll}
                              : Chunk{&kvs[s], std::span(others).first(s + 1), Chunk::Logits::kLast});
    const auto logits = model.forward(chunks, work, three);
    const auto vocab = static_cast<std::size_t>(model.config().vocab);
    beside.insert(beside.end(), logits.begin() + static_cast<std::ptrdiff_t>(vocab),
                  logits.begin() + static_cast<std::ptrdiff_t>(vocab * (1 + m)));
    done += m;
    for (std::size_t s = 0; s < kvs.size(); ++s)
      kvs[s].commit(done == n ? Phase::kPromptEnd : Phase::kPrompt, static_cast<int>(chunks[s].tokens.size()));
  }
  EXPECT_EQ(beside, alone);
}

TEST_P(TinyModel, IdentityMapIsFullAndSharingLayersComputeNoKeys) {
  const Golden golden(GetParam());
  ThreadPool pool(1);
  Model model = Model::load(golden.path, pool);
  std::string identity = "map(0";
  for (int layer = 1; layer < model.config().layers; ++layer) identity.append("_").append(std::to_string(layer));
  const std::size_t n = golden.tokens.size();
  EXPECT_EQ(run(model, pool, identity + ")", golden.tokens, n, n), run(model, pool, "full", golden.tokens, n, n));
  const auto map = KvSpec::parse(pairs_map(model.shape()), model.shape());
  const std::uint64_t before = model.kv_products();
  run(model, pool, pairs_map(model.shape()), golden.tokens, 5, 5);
  EXPECT_EQ(model.kv_products() - before, static_cast<std::uint64_t>(map.layers.slots()) * n);
}

INSTANTIATE_TEST_SUITE_P(Goldens, TinyModel, ::testing::ValuesIn(tiny_models()), [](const auto& model) {
  std::string name = model.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Forward, RefusesTokensOutsideTheVocabulary) {
  ThreadPool pool(1);
  Model model = Model::load(kTiny + "llama-gqa.gguf", pool);
  for (const Token token : {-1, 100000}) {
    const std::vector<Token> tokens{1, token};
    EXPECT_THROW(run(model, pool, "full", tokens, 2, 2), Error);
  }
}

}  // namespace
}  // namespace lamina
