// SPDX-License-Identifier: Apache-2.0
// Hugging Face folders: logits against transformers and, for LCKV, against the paper's decoding in double precision;
// files and tensors that are refused, and by which line. Goldens: tools/golden_hf.py.
#include "model/hf_folder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/changed_folder.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

struct Golden {
  explicit Golden(const std::string& name) : facts(read_json(kHfFolders + name + ".json")) {
    tokens = facts.at("tokens").get<std::vector<Token>>();
    logits.resize(tokens.size() * facts.at("vocab").get<std::size_t>());
    std::ifstream in(kHfFolders + name + ".logits.f32", std::ios::binary);
    in.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size() * 4));
    EXPECT_TRUE(in.good()) << name;
  }

  json facts;
  std::vector<Token> tokens;
  std::vector<float> logits;  // [token][vocab]
};

// The greatest difference from the golden's logits: a prompt in one step, then one token at a time, or all of them so.
float difference(Model& model, const Golden& golden, std::size_t prompt) {
  ThreadPool pool(2);
  BlockPool blocks(model.shape(), std::size_t{1} << 28);
  KvSequence kv(std::make_shared<KvSpec>(KvSpec::parse("f32", model.shape())), model.shape(), blocks);
  Workspace work;
  float most = 0;
  std::size_t at = 0;
  for (std::size_t done = 0; done < golden.tokens.size();) {
    const std::size_t n = done < prompt ? prompt : 1;
    const Chunk chunk{.kv = &kv, .tokens = std::span(golden.tokens).subspan(done, n), .logits = Chunk::Logits::kAll};
    for (const float logit : model.forward({&chunk, 1}, work, pool)) {
      EXPECT_TRUE(std::isfinite(logit));
      most = std::max(most, std::fabs(logit - golden.logits[at++]));
    }
    kv.commit(done < prompt ? Phase::kPromptEnd : Phase::kDecode, static_cast<int>(n));
    done += n;
  }
  EXPECT_EQ(at, golden.logits.size());
  return most;
}

std::vector<std::string> folders() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kHfFolders))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class HfModel : public ::testing::TestWithParam<std::string> {};

// f32 rows add no rounding of their own, and the goldens' float64 leaves float32's rounding to us: 1e-4, or ten times
// what the golden's own code is off in float32 where a map amplifies it.
TEST_P(HfModel, LogitsEqualTheGolden) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  Model model = Model::load(kHfFolders + GetParam(), pool);
  const float tolerance = std::max(1e-4F, 10 * golden.facts.value("float32", 0.0F));
  // Where layers read upwards, prompts of up to m + b tokens, 8 in one folder and 9 in the others, are exact.
  for (const std::size_t prompt : {std::size_t{1}, std::size_t{8}})
    EXPECT_LE(difference(model, golden, prompt), tolerance) << prompt;
  const auto& targets = model.config().targets;
  const bool upward = std::ranges::any_of(targets, [&, layer = 0](int target) mutable { return target > layer++; });
  if (!upward) {
    EXPECT_LE(difference(model, golden, golden.tokens.size()), tolerance);
  }
}

TEST_P(HfModel, FingerprintIsTheHashOfNamesAndShapes) {
  const auto config = ModelConfig::from(ModelFile::open(kHfFolders + GetParam()));
  EXPECT_EQ(config.fingerprint, Golden(GetParam()).facts.at("fingerprint"));
  EXPECT_EQ(config.vocab, Golden(GetParam()).facts.at("vocab"));
  EXPECT_EQ(config.name, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Goldens, HfModel, ::testing::ValuesIn(folders()), [](const auto& folder) {
  std::string name = folder.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(HfFolder, GgufAndFolderOfOneModelHaveOneFingerprint) {
  const auto of = [](const std::string& path) { return ModelConfig::from(ModelFile::open(path)).fingerprint; };
  EXPECT_EQ(of(kHfFolders + "llama"), of(kTiny + "llama-gqa.gguf"));
  EXPECT_EQ(of(kTiny + "llama-rope-llama3.gguf"), of(kHfFolders + "llama-llama3"));  // without rope_freqs.weight
  EXPECT_EQ(of(kTiny + "gemma3.gguf").size(), 64U);
  EXPECT_NE(of(kTiny + "llama-gqa.gguf"), of(kTiny + "llama-wide-heads.gguf"));
  EXPECT_EQ(of(kHfFolders + "opt-llama"), of(kHfFolders + "lckv-cyclic-nodiag"));
  EXPECT_NE(of(kHfFolders + "lckv-acyclic"), of(kHfFolders + "lckv-cyclic"));
}

TEST(HfFolder, OnlyLayersThatAreReadHaveKeysAndValues) {
  ThreadPool pool(1);
  const Model model = Model::load(kHfFolders + "lckv-cyclic", pool);
  std::vector<bool> has;
  for (const LayerWeights& layer : model.weights().layers) has.push_back(layer.has_kv());
  EXPECT_EQ(has, (std::vector<bool>{true, false, true, true}));
  EXPECT_EQ(model.weights().layers[1].v.bytes(), 0U);
}

using HfFolderOnDisk = ChangedFolder;

TEST_F(HfFolderOnDisk, MissingFiles) {
  copy("llama");
  EXPECT_EQ(error(), "no error");
  fs::rename(file("model.safetensors"), file("weights.safetensors"));
  EXPECT_EQ(error(), ": holds neither model.safetensors nor model.safetensors.index.json");
  fs::remove(file("config.json"));
  EXPECT_EQ(error(), "/config.json: cannot open: No such file or directory");
  copy("llama-shards-bf16");
  EXPECT_EQ(error(), "no error");
  fs::remove(file("model-00002-of-00004.safetensors"));
  EXPECT_EQ(error(), "/model-00002-of-00004.safetensors: cannot open: No such file or directory");
  fs::remove(file("model.safetensors.index.json"));
  EXPECT_EQ(error(), ": holds neither model.safetensors nor model.safetensors.index.json");
}

TEST_F(HfFolderOnDisk, WrongIndex) {
  copy("llama-shards-bf16");
  const std::string path = file("model.safetensors.index.json");
  const json good = read_json(path);
  const std::string where = "/model.safetensors.index.json: weight_map: ";
  const auto error_of = [&](const json& map) {
    std::ofstream(path) << json{{"weight_map", map}};
    return error();
  };
  for (const char* name : {"../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "..", "",
                           "a\\b.safetensors", "model.bin", "a\nb.safetensors"})
    EXPECT_EQ(error_of({{"x", name}}),
              where + "\"x\" is in " + json(name).dump() + ", expected a file NAME.safetensors in the same folder");
  EXPECT_EQ(error_of({{"x", 1}}), where + "\"x\" is in 1, expected a file NAME.safetensors in the same folder");
  json map = good["weight_map"];
  map["lm_head.weight"] = map["model.layers.0.mlp.up_proj.weight"];
  EXPECT_EQ(error_of(map).substr(0, 68 + where.size() - 32),
            (where + "tensor \"lm_head.weight\" is not in \"model-00").substr(0, 36 + where.size()));
  const std::string no_map =
      "/model.safetensors.index.json: weight_map is missing or empty, expected an object of "
      "tensor names and file names";
  EXPECT_EQ(error_of(json::object()), no_map);
  std::ofstream(path) << "[]";
  EXPECT_EQ(error(), no_map);
  std::ofstream(path) << "{";
  EXPECT_EQ(error(), "/model.safetensors.index.json: not JSON at byte 1 of 1");
}

TEST_F(HfFolderOnDisk, WrongTensors) {
  copy("llama");
  const Tensors good = read();
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const auto error_of = [&](const Tensors& tensors) {
    write(tensors);
    return error();
  };
  Tensors bad = good;
  const auto rename = [&](const std::string& from, const std::string& to) {
    bad = good;
    bad.header[to] = bad.header[from];
    bad.header.erase(from);
    return error_of(bad);
  };
  const std::string unknown = "\" is not part of a model as it is known here";
  for (const char* other :
       {"model.layers.1.self_attn.k_proj.bias", "model.layers.01.self_attn.k_proj.weight", "score.weight",
        "model.layers.1", "model.layers.-1.self_attn.k_proj.weight", "blk.1.attn_k.weight"})
    EXPECT_EQ(rename(name, other), fmt::format("/model.safetensors: tensor \"{}{}", other, unknown));
  EXPECT_EQ(rename(name, "model.layers.9.self_attn.k_proj.weight"),
            ": tensor \"model.layers.1.self_attn.k_proj.weight\" (here \"blk.1.attn_k.weight\") is missing");
  EXPECT_EQ(rename("model.embed_tokens.weight", "model.layers.9.self_attn.k_proj.weight"),
            ": tensor \"model.embed_tokens.weight\" (here \"token_embd.weight\") is missing");
  bad = good;
  bad.header[name]["shape"] = {32, 16};
  EXPECT_EQ(error_of(bad),
            ": tensor \"model.layers.1.self_attn.k_proj.weight\" (here \"blk.1.attn_k.weight\") is "
            "[32,16], expected [16,32]");
  bad = good;
  const std::uint32_t infinity = 0x7f800000;
  std::memcpy(&bad.data[bad.header[name]["data_offsets"][0].get<std::size_t>()], &infinity, 4);
  EXPECT_EQ(error_of(bad), ": tensor \"blk.1.attn_k.weight\" holds weights that are not finite numbers");
  bad = good;
  bad.data.pop_back();
  EXPECT_NE(error_of(bad).find("but the file has only"), std::string::npos);
  // One layer more than the config says.
  with("llama", {{"num_hidden_layers", 3}});
  EXPECT_EQ(error(),
            ": tensor \"model.layers.3.input_layernorm.weight\" (here \"blk.3.attn_norm.weight\") is not part "
            "of this architecture as it is known here");
}

// An ordinary checkpoint under a trained map: K and V of layers that nobody reads are neither loaded nor counted.
TEST_F(HfFolderOnDisk, SurplusKeysAndValuesAreIgnored) {
  const std::string path = with("llama", {{"model_type", "lckv-llama"}, {"layer_types", "0_0_2_2"}});
  ThreadPool pool(1);
  const Model shared = Model::load(path, pool), plain = Model::load(kHfFolders + "llama", pool);
  const LayerWeights& layer = plain.weights().layers[1];
  EXPECT_FALSE(shared.weights().layers[1].has_kv());
  EXPECT_EQ(plain.weights().bytes() - shared.weights().bytes(), 2 * (layer.k.bytes() + layer.v.bytes()));
  // The same tensors without the surplus have the same fingerprint.
  Tensors tensors = read();
  json header;
  std::string data;
  for (const auto& [name, entry] : tensors.header.items()) {
    if (name == "__metadata__" || name.find("layers.1.self_attn.k") != std::string::npos ||
        name.find("layers.1.self_attn.v") != std::string::npos ||
        name.find("layers.3.self_attn.k") != std::string::npos ||
        name.find("layers.3.self_attn.v") != std::string::npos)
      continue;
    const auto begin = entry["data_offsets"][0].get<std::size_t>(), end = entry["data_offsets"][1].get<std::size_t>();
    header[name] = entry;
    header[name]["data_offsets"] = {data.size(), data.size() + end - begin};
    data += tensors.data.substr(begin, end - begin);
  }
  write({header, data});
  EXPECT_EQ(ModelConfig::from(ModelFile::open(path)).fingerprint, shared.config().fingerprint);
  EXPECT_NE(plain.config().fingerprint, shared.config().fingerprint);
  EXPECT_EQ(Model::load(path, pool).weights().bytes(), shared.weights().bytes());
}

TEST_F(HfFolderOnDisk, ASlashAtTheEndOfAPathMayBe) {
  const auto config = ModelConfig::from(ModelFile::open(kHfFolders + "llama//"));
  EXPECT_EQ(config.name, "llama");
}

}  // namespace
}  // namespace lamina
