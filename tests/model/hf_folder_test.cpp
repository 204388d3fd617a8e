// SPDX-License-Identifier: Apache-2.0
// Hugging Face folders: logits against transformers and, for LCKV, against the paper's decoding in double precision;
// what is refused, and by which line. Goldens: tools/golden_hf.py.
#include "model/hf_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "model/forward.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kFolders = std::string(LAMINA_TESTS) + "/golden/hf/";
const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

json read_json(const std::string& path) { return json::parse(std::ifstream(path)); }

struct Golden {
  explicit Golden(const std::string& name) : facts(read_json(kFolders + name + ".json")) {
    tokens = facts.at("tokens").get<std::vector<Token>>();
    logits.resize(tokens.size() * facts.at("vocab").get<std::size_t>());
    std::ifstream in(kFolders + name + ".logits.f32", std::ios::binary);
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
  for (const auto& entry : fs::directory_iterator(kFolders))
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
  Model model = Model::load(kFolders + GetParam(), pool);
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
  const auto config = ModelConfig::from(ModelFile::open(kFolders + GetParam()));
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
  EXPECT_EQ(of(kFolders + "llama"), of(kTiny + "llama-gqa.gguf"));
  EXPECT_EQ(of(kTiny + "llama-rope-llama3.gguf"), of(kFolders + "llama-llama3"));  // without rope_freqs.weight
  EXPECT_EQ(of(kTiny + "gemma3.gguf").size(), 64U);
  EXPECT_NE(of(kTiny + "llama-gqa.gguf"), of(kTiny + "llama-wide-heads.gguf"));
  EXPECT_EQ(of(kFolders + "opt-llama"), of(kFolders + "lckv-cyclic-nodiag"));
  EXPECT_NE(of(kFolders + "lckv-acyclic"), of(kFolders + "lckv-cyclic"));
}

TEST(HfFolder, ConfigsOfLckv) {
  const auto of = [](const std::string& name) { return ModelConfig::from(ModelFile::open(kFolders + name)); };
  const ModelConfig plain = of("llama");
  EXPECT_TRUE(plain.targets.empty());
  EXPECT_FALSE(plain.rope.interleaved);
  EXPECT_EQ(plain.windows, (std::vector<Pos>{0, 0, 0, 0}));
  const ModelConfig window = of("lckv-window");
  EXPECT_EQ(window.targets, (std::vector<int>{0, 0, 2, 2}));
  EXPECT_EQ(window.windows, (std::vector<Pos>{5, 5, 0, 0}));
  EXPECT_EQ(window.forward_passes, 7);
  EXPECT_EQ(window.backward_passes, 2);
  EXPECT_FALSE(window.no_diagonal);
  for (const char* name : {"opt-llama", "lckv-cyclic-nodiag"}) {
    const ModelConfig config = of(name);
    EXPECT_EQ(config.targets, (std::vector<int>{0, 2, 2, 3})) << name;
    EXPECT_EQ(config.forward_passes, 5) << name;
    EXPECT_EQ(config.backward_passes, 3) << name;
    EXPECT_TRUE(config.no_diagonal) << name;
  }
}

TEST(HfFolder, OnlyLayersThatAreReadHaveKeysAndValues) {
  ThreadPool pool(1);
  const Model model = Model::load(kFolders + "lckv-cyclic", pool);
  std::vector<bool> has;
  for (const LayerWeights& layer : model.weights().layers) has.push_back(layer.has_kv());
  EXPECT_EQ(has, (std::vector<bool>{true, false, true, true}));
  EXPECT_EQ(model.weights().layers[1].v.bytes(), 0U);
}

// ---- folders that are changed on the way ----------------------------------------------------------------------------

class Changed : public ::testing::Test {
 protected:
  Changed() {
    fs::remove_all(path_);
    fs::create_directories(path_.parent_path());
  }
  ~Changed() override { fs::remove_all(path_); }

  std::string copy(const std::string& name) {
    fs::remove_all(path_);
    fs::copy(kFolders + name, path_);
    return path_;
  }
  std::string file(const std::string& name) const { return path_ / name; }

  // A copy of a folder with fields of its config changed; null erases.
  std::string with(const std::string& name, const json& fields) {
    copy(name);
    json config = read_json(file("config.json"));
    config.merge_patch(fields);
    std::ofstream(file("config.json")) << config;
    return path_;
  }

  // Tensors by their names, as the file has them; written back with `write`.
  struct Tensors {
    json header;
    std::string data;
  };
  Tensors read() const {
    std::ifstream in(file("model.safetensors"), std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    std::uint64_t size = 0;
    std::memcpy(&size, all.data(), sizeof size);
    return {json::parse(all.substr(8, size)), all.substr(8 + size)};
  }
  void write(const Tensors& tensors) const {
    const std::string header = tensors.header.dump();
    const std::uint64_t size = header.size();
    std::ofstream out(file("model.safetensors"), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out << header << tensors.data;
  }

  // What loading the folder says, without the folder's path.
  std::string error() const {
    ThreadPool pool(1);
    try {
      Model::load(path_, pool);
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.rfind(path_.string(), 0), 0U) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      return text.substr(std::min(text.size(), path_.string().size()));
    }
    return "no error";
  }
  std::string error_with(const std::string& name, const json& fields) {
    with(name, fields);
    return error();
  }

  const fs::path path_ =
      fs::path(testing::TempDir()) / "lamina-hf" / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(Changed, MissingFiles) {
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

TEST_F(Changed, WrongIndex) {
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
  EXPECT_EQ(error(), "/model.safetensors.index.json: not JSON at byte 2 of 1");
}

TEST_F(Changed, WrongTensors) {
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

TEST_F(Changed, FieldsThatAreRefused) {
  const auto error_of = [&](const json& fields) {
    const std::string text = error_with("llama", fields), where = "/config.json: ";
    return text.substr(text.starts_with(where) ? where.size() : 0);
  };
  EXPECT_EQ(error_of({{"model_type", "gpt2"}}),
            "model_type is \"gpt2\", expected \"llama\", \"lckv-llama\" or \"opt-llama\"");
  EXPECT_EQ(error_of({{"model_type", nullptr}}), "model_type is missing, expected a string");
  EXPECT_EQ(error_of({{"hidden_act", "gelu"}}), "hidden_act is \"gelu\", expected \"silu\"");
  EXPECT_EQ(error_of({{"attention_bias", true}}), "attention_bias is true, expected false");
  EXPECT_EQ(error_of({{"mlp_bias", true}}), "mlp_bias is true, expected false");
  EXPECT_EQ(error_of({{"quantization_config", {{"bits", 4}}}}),
            "quantization_config is {\"bits\":4}, expected none: not supported");
  EXPECT_EQ(error_of({{"hidden_size", nullptr}}), "hidden_size is missing, expected an integer from 1 to 16777216");
  EXPECT_EQ(error_of({{"hidden_size", 32.5}}), "hidden_size is 32.5, expected an integer from 1 to 16777216");
  EXPECT_EQ(error_of({{"hidden_size", 18446744073709551615U}}),
            "hidden_size is 18446744073709551615, expected an integer from 1 to 16777216");
  EXPECT_EQ(error_of({{"num_hidden_layers", 0}}), "num_hidden_layers is 0, expected an integer from 1 to 10000");
  EXPECT_EQ(error_of({{"num_key_value_heads", 3}}),
            "num_key_value_heads is 3, expected a divisor of num_attention_heads, 4");
  EXPECT_EQ(error_of({{"head_dim", 7}}), "head_dim is 7, expected an even number up to 512");
  EXPECT_EQ(error_of({{"head_dim", nullptr}, {"hidden_size", 33}}),
            "head_dim is missing, expected a number: hidden_size 33 does not divide among 4 heads");
  EXPECT_EQ(error_of({{"num_attention_heads", 1 << 24}}),
            "num_attention_heads: 16777216 heads of 8 channels, expected at most 16777216 in all");
  EXPECT_EQ(error_of({{"rms_norm_eps", "x"}}), "rms_norm_eps is \"x\", expected a positive number");
  EXPECT_EQ(error_of({{"vocab_size", 270}}), "vocab_size is 270, expected 271, as model.embed_tokens.weight has rows");
  EXPECT_EQ(error_of({{"layer_types", "0_1_2_3"}}),
            "layer_types is \"0_1_2_3\", expected none for a model_type \"llama\"");
  EXPECT_EQ(error_of({{"tie_word_embeddings", true}}),
            "tie_word_embeddings is true, expected false, as tensor \"lm_head.weight\" differs from "
            "\"model.embed_tokens.weight\"");
  EXPECT_EQ(
      error_with("llama-llama3", {{"tie_word_embeddings", false}}),
      "/config.json: tie_word_embeddings is false, expected true, as the folder has no tensor \"lm_head.weight\"");
  std::ofstream(file("config.json")) << "{} {}";
  EXPECT_EQ(error(), "/config.json: not JSON at byte 4 of 5");
  std::ofstream(file("config.json")) << "[]";
  EXPECT_EQ(error(), "/config.json: found [], expected a JSON object");
  std::ofstream(file("config.json")) << R"({"hidden_size":1,"hidden_size":2})";
  EXPECT_EQ(error(), "/config.json: field \"hidden_size\" comes twice");
}

TEST_F(Changed, RopeThatIsRefused) {
  const auto error_of = [&](const json& rope) { return error_with("llama-llama3", {{"rope_parameters", rope}}); };
  const std::string where = "/config.json: rope_parameters.";
  for (const char* type : {"dynamic", "longrope", "x"})
    EXPECT_EQ(error_of({{"rope_type", type}}),
              where + "rope_type is \"" + type + "\", expected \"default\", \"linear\", \"llama3\" or \"yarn\"");
  EXPECT_EQ(error_of({{"rope_theta", -1}}), where + "rope_theta is -1, expected a positive number");
  EXPECT_EQ(error_of({{"factor", nullptr}}), where + "factor is missing, expected a positive number");
  EXPECT_EQ(error_of({{"factor", 0.5}}), where + "factor is 0.5, expected at least 1");
  EXPECT_EQ(error_of({{"high_freq_factor", 1}}),
            where + "high_freq_factor is 1, expected more than low_freq_factor, 1");
  EXPECT_EQ(error_of({{"partial_rotary_factor", 0.5}}), where + "partial_rotary_factor is 0.5, expected 1");
  EXPECT_EQ(error_of({{"rope_type", "yarn"}, {"truncate", false}}), where + "truncate is false, expected true");
  EXPECT_EQ(error_of({{"rope_type", "yarn"}, {"mscale", 1.0}}), where + "mscale is 1.0, expected none: not supported");
  EXPECT_EQ(error_with("llama-llama3", {{"rope_parameters", 1}}),
            "/config.json: rope_parameters is 1, expected an object");
  EXPECT_EQ(error_with("llama-llama3", {{"rope_theta", 10000.0}}), where + "rope_theta is 500000.0, expected 10000.0");
  EXPECT_EQ(error_with("llama-llama3", {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
            R"(/config.json: rope_scaling is {"factor":2,"type":"linear"}, expected none beside rope_parameters)");
  EXPECT_EQ(error_with("llama-llama3", {{"partial_rotary_factor", 0.25}}),
            "/config.json: partial_rotary_factor is 0.25, expected 1");
}

TEST_F(Changed, LayerTypesThatAreRefused) {
  const auto error_of = [&](const json& fields) {
    const std::string text = error_with("lckv-cyclic", fields), where = "/config.json: ";
    return text.substr(text.starts_with(where) ? where.size() : 0);
  };
  EXPECT_EQ(error_of({{"layer_types", "0_2_2"}}), "layer_types: 3 items, expected 4, as num_hidden_layers says");
  EXPECT_EQ(error_of({{"layer_types", "0_2_2_4"}}), "layer_types: item 3 is 4, expected 0 to 3");
  EXPECT_EQ(error_of({{"layer_types", "0_2_2_x"}}).substr(0, 21), "layer_types: item 3 o");
  EXPECT_EQ(error_of({{"layer_types", {0, 2, 2, 3}}}), "layer_types is [0,2,2,3], expected a string");
  EXPECT_EQ(error_of({{"layer_types", "0_2_2_3s"}, {"sliding_window", 0}}),
            "sliding_window is 0, expected an integer from 1 to 16777216");
  EXPECT_EQ(error_of({{"use_sequential", true}}), "use_sequential is true, expected false");
  EXPECT_EQ(error_of({{"force_nodiag", 1}}), "force_nodiag is 1, expected true or false");
  EXPECT_EQ(error_of({{"forward_passes", -1}}), "forward_passes is -1, expected an integer from 0 to 1000");
  EXPECT_EQ(error_of({{"backward_passes", 0}}), "backward_passes is 0, expected an integer from 1 to 1000");
  // Layer 1 would write, but the file has no matrices for it.
  EXPECT_EQ(error_of({{"layer_types", nullptr}}),
            ": tensor \"model.layers.1.self_attn.k_proj.weight\" (here \"blk.1.attn_k.weight\") is missing");
}

TEST_F(Changed, OldLayerTypesThatAreRefused) {
  const auto error_of = [&](const json& fields) {
    const std::string text = error_with("opt-llama", fields), where = "/config.json: ";
    return text.substr(text.starts_with(where) ? where.size() : 0);
  };
  EXPECT_EQ(error_of({{"target_layer", 2}}), "no error");
  EXPECT_EQ(error_of({{"target_layer", -1}}), "layer_types is \"0_1_2_0\", expected a 2 at layer 3, target_layer");
  EXPECT_EQ(error_of({{"target_layer", -5}}), "target_layer is -5, expected an integer from -4 to 3");
  EXPECT_EQ(error_of({{"layer_types", "0_2_2_0"}}),
            "layer_types is \"0_2_2_0\", expected the 2 at layer 2 only, target_layer");
  EXPECT_EQ(error_of({{"layer_types", "0_1_1_0"}}),
            "layer_types is \"0_1_1_0\", expected a 2 at layer 2, target_layer");
  EXPECT_EQ(error_of({{"layer_types", "0_1_3_0"}}), "layer_types: item 2 is 3, expected 0 to 2");
  EXPECT_EQ(error_of({{"layer_types", "0_1_2s_0"}}), "layer_types is \"0_1_2s_0\", expected no \"s\"");
  EXPECT_EQ(error_of({{"num_trained_encoders", 8}}), "num_trained_encoders is 8, expected at most num_encoders, 7");
  EXPECT_EQ(error_of({{"num_warmup_layers", 1}}),
            "num_warmup_layers is 1, expected none: layer_types, target_layer and num_trained_encoders in its place");
}

// An ordinary checkpoint under a trained map: K and V of layers that nobody reads are neither loaded nor counted.
TEST_F(Changed, SurplusKeysAndValuesAreIgnored) {
  const std::string path = with("llama", {{"model_type", "lckv-llama"}, {"layer_types", "0_0_2_2"}});
  ThreadPool pool(1);
  const Model shared = Model::load(path, pool), plain = Model::load(kFolders + "llama", pool);
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

TEST_F(Changed, ASlashAtTheEndOfAPathMayBe) {
  const auto config = ModelConfig::from(ModelFile::open(kFolders + "llama//"));
  EXPECT_EQ(config.name, "llama");
}

}  // namespace
}  // namespace lamina
