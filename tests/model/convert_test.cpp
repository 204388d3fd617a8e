// SPDX-License-Identifier: Apache-2.0
// Conversion to LCKV: sizes of the published models, means by hand, and conversions under the identity map, which must
// compute what their source computes.
#include "model/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kv/layers/layer_map.h"
#include "kv/layers/lckv.h"
#include "model/changed_folder.h"
#include "model/dequant.h"
#include "model/same_tokenizer.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

LckvMap map_of(const std::string& layer_types) {
  LckvMap map{.layer_types = layer_types};
  for (const LayerType& type : parse_layer_types(layer_types)) map.targets.push_back(type.target);
  return map;
}

// ---- sizes ----------------------------------------------------------------------------------------------------------

struct Published {
  ModelConfig config;
  std::vector<std::pair<int, double>> millions;      // (w, parameters); w = -1: ordinary
  std::vector<std::pair<int, std::uint64_t>> bytes;  // (w, bytes a token)
};

ModelConfig shape(int layers, int hidden, int ffn, int heads, int kv_heads) {
  ModelConfig config;
  config.layers = layers;
  config.hidden = hidden;
  config.ffn = ffn;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.vocab = 32000;
  return config;
}

TEST(LckvSizes, EqualThePublishedModels) {
  const std::vector<Published> models = {
      {shape(8, 512, 1024, 8, 4), {{-1, 51.65}, {2, 50.34}}, {{-1, 8192}, {2, 3072}}},
      {shape(12, 768, 2048, 12, 6), {{-1, 127.03}, {2, 121.72}, {10, 126.44}}, {}},
      {shape(22, 2048, 5632, 32, 4),
       {{-1, 1100.05}, {2, 1080.13}, {10, 1088.51}},
       {{-1, 22528}, {2, 3072}, {10, 11264}}},
      {shape(32, 4096, 11008, 32, 32), {}, {{-1, 524288}, {2, 49152}, {10, 180224}}},
      {shape(60, 6656, 17920, 52, 52), {}, {{-1, 1597440}, {2, 79872}, {10, 292864}}},
  };
  for (const Published& model : models) {
    const auto map = [&](int w) {
      return LckvMap{.layer_types = "",
                     .targets = w < 0 ? cla(model.config.layers, 1).target : lckv(model.config.layers, w).target};
    };
    for (const auto& [w, millions] : model.millions)
      EXPECT_NEAR(static_cast<double>(parameters(lckv_tensors(model.config, map(w), true))) / 1e6, millions, 0.005)
          << w;
    for (const auto& [w, bytes] : model.bytes) EXPECT_EQ(kv_token_bytes(model.config, map(w)), bytes) << w;
  }
}

// ---- folders --------------------------------------------------------------------------------------------------------

std::vector<float> values_of(const TensorView& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
  dequantize(tensor.type, tensor.data, values);
  return values;
}

std::vector<float> logits_of(const std::string& path, const std::vector<Token>& tokens) {
  ThreadPool pool(1);
  Model model = Model::load(path, pool);
  BlockPool blocks(model.shape(), std::size_t{1} << 28);
  KvSequence kv(std::make_shared<KvSpec>(KvSpec::parse("f32", model.shape())), model.shape(), blocks);
  Workspace work;
  const Chunk chunk{.kv = &kv, .tokens = tokens, .logits = Chunk::Logits::kAll, .prompt = true};
  const auto logits = model.forward({&chunk, 1}, work, pool);
  return {logits.begin(), logits.end()};
}

class Convert : public ChangedFolder {
 protected:
  ~Convert() override { fs::remove_all(out_); }

  LckvResult convert(const std::string& source, const std::string& layer_types, TensorType type = TensorType::kF32) {
    fs::remove_all(out_);
    return convert_lckv(ModelFile::open(source), map_of(layer_types), type, out_, [](std::size_t, std::size_t) {});
  }

  std::string error_of(const std::string& source, const std::string& layer_types, TensorType type = TensorType::kF32) {
    try {
      convert(source, layer_types, type);
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(out_));
      EXPECT_FALSE(fs::exists(out_ + ".part"));
      std::string text = error.what();
      return text.starts_with(source) ? text.substr(source.size()) : text;
    }
    return "no error";
  }

  const std::string out_ = std::string(path_) + "-out";
};

// The folder golden/hf/llama holds the weights that golden/tiny/llama-gqa.gguf was made from.
TEST_F(Convert, ReordersHeadsBackToTheBit) {
  convert(kTiny + "llama-gqa.gguf", "0_1_2_3");
  const HfFolder made = HfFolder::open(out_), original = HfFolder::open(kHfFolders + "llama");
  EXPECT_EQ(made.tensors().size(), original.tensors().size());
  for (const TensorView& tensor : original.tensors()) {
    const TensorView& other = made.tensors().tensor(tensor.name);
    EXPECT_EQ(tensor.shape, other.shape) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(tensor.data, other.data)) << tensor.name;
  }
}

// Every source that config.json can tell of, from both kinds of files and with every scaling of rope.
TEST_F(Convert, IdentityMapComputesWhatTheSourceComputes) {
  const std::vector<std::string> sources = {kTiny + "llama-gqa",
                                            kTiny + "llama-wide-heads",
                                            kTiny + "llama-rope-linear",
                                            kTiny + "llama-rope-yarn",
                                            kTiny + "llama-rope-yarn-keys",
                                            kHfFolders + "llama",
                                            kHfFolders + "llama-llama3",
                                            kHfFolders + "llama-yarn-f16",
                                            kHfFolders + "llama-linear-old",
                                            kHfFolders + "llama-shards-bf16"};
  for (const std::string& source : sources) {
    SCOPED_TRACE(source);
    const auto facts = read_json(source + ".json");
    const auto tokens = facts.at("tokens").get<std::vector<Token>>();
    const std::string path = fs::is_directory(source) ? source : source + ".gguf";
    convert(path, print_layer_types(identity_targets(ModelConfig::from(ModelFile::open(path)).layers)));
    const auto expected = logits_of(path, tokens), made = logits_of(out_, tokens);
    ASSERT_EQ(expected.size(), made.size());
    float most = 0;
    for (std::size_t i = 0; i < made.size(); ++i) most = std::max(most, std::fabs(made[i] - expected[i]));
    EXPECT_LE(most, 1e-4F);  // float32's rounding, which sums a head's channels in another order; 4e-5 at most here
  }
}

TEST_F(Convert, KeysAndValuesAreThePlainMeanOfTheReaders) {
  const struct {
    std::string layer_types;
    std::vector<std::vector<int>> readers;  // [layer]
  } cases[] = {{"0_2_2_3", {{0}, {}, {1, 2}, {3}}},
               {"0_0_2_2", {{0, 1}, {}, {2, 3}, {}}},
               {"0_3_3_3", {{0}, {}, {}, {1, 2, 3}}},
               {"1_2_0_0", {{2, 3}, {0}, {1}, {}}}};
  for (const std::string& source : {kTiny + "llama-gqa.gguf", kHfFolders + "llama"}) {
    const HfFolder original = HfFolder::open(kHfFolders + "llama");
    for (const auto& [layer_types, readers] : cases) {
      const LckvResult result = convert(source, layer_types);
      const HfFolder made = HfFolder::open(out_);
      for (int layer = 0; layer < 4; ++layer) {
        for (const char* matrix : {"k", "v"}) {
          const auto name = [&](int l) { return fmt::format("blk.{}.attn_{}.weight", l, matrix); };
          SCOPED_TRACE(layer_types + " " + name(layer));
          const auto& of = readers[static_cast<std::size_t>(layer)];
          const TensorView* const tensor = made.tensors().find(name(layer));
          ASSERT_EQ(tensor != nullptr, !of.empty());
          if (of.empty()) continue;
          std::vector<double> sum(16 * 32);
          for (const int reader : of) {
            const auto values = values_of(original.tensors().tensor(name(reader), {16, 32}));
            for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(values[i]);
          }
          const auto mean = values_of(*tensor);
          for (std::size_t i = 0; i < sum.size(); ++i)
            EXPECT_EQ(mean[i], static_cast<float>(sum[i] / static_cast<double>(of.size())));
        }
      }
      const auto kept = static_cast<std::uint64_t>(std::ranges::count_if(readers, [](auto& r) { return !r.empty(); }));
      EXPECT_EQ(result.parameters_before - result.parameters_after, (4 - kept) * 2 * 16 * 32);
      EXPECT_EQ(result.kv_token_bytes, kept * 2 * 16 * 2);
      EXPECT_EQ(result.weight_bytes, fs::file_size(out_ + "/model.safetensors"));
      ThreadPool pool(1);
      EXPECT_EQ(Model::load(out_, pool).config().targets, map_of(layer_types).targets);
      for (const float logit : logits_of(out_, {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}))
        ASSERT_TRUE(std::isfinite(logit));
    }
  }
}

TEST_F(Convert, RoundsToTheTypeAskedFor) {
  const std::string source = kHfFolders + "llama";
  const HfFolder original = HfFolder::open(source);
  for (const auto type : {TensorType::kF16, TensorType::kBF16}) {
    convert(source, "0_1_2_3", type);
    const HfFolder made = HfFolder::open(out_);
    EXPECT_EQ(made.config().at("torch_dtype"), type == TensorType::kF16 ? "float16" : "bfloat16");
    for (const TensorView& tensor : made.tensors()) {
      ASSERT_EQ(tensor.type, type);
      const auto exact = values_of(original.tensors().tensor(tensor.name)), rounded = values_of(tensor);
      for (std::size_t i = 0; i < exact.size(); ++i)
        ASSERT_EQ(rounded[i], type == TensorType::kF16 ? f32_from_f16(f16_from_f32(exact[i]))
                                                       : f32_from_bf16(bf16_from_f32(exact[i])));
    }
  }
  EXPECT_EQ(default_float_type(ModelFile::open(kTiny + "llama-gqa.gguf")), TensorType::kF32);
  EXPECT_EQ(default_float_type(ModelFile::open(kHfFolders + "llama-shards-bf16")), TensorType::kBF16);
}

TEST_F(Convert, ConfigHasTheNamesOfLckv) {
  LckvMap map = map_of("0_3_3s_3");
  map.window = 64;
  map.forward_passes = 3;
  fs::remove_all(out_);
  convert_lckv(ModelFile::open(kTiny + "llama-gqa.gguf"), map, TensorType::kF16, out_, [](std::size_t, std::size_t) {});
  const json config = read_json(out_ + "/config.json");
  const json expected = {{"architectures", {"LCKVLlamaForCausalLM"}},
                         {"model_type", "lckv-llama"},
                         {"layer_types", "0_3_3s_3"},
                         {"forward_passes", 3},
                         {"backward_passes", 2},
                         {"sliding_window", 64},
                         {"use_sequential", false},
                         {"force_nodiag", false},
                         {"torch_dtype", "float16"},
                         {"tie_word_embeddings", false},
                         {"hidden_size", 32},
                         {"intermediate_size", 48},
                         {"num_hidden_layers", 4},
                         {"num_attention_heads", 4},
                         {"num_key_value_heads", 2},
                         {"head_dim", 8},
                         {"vocab_size", 271},
                         {"max_position_embeddings", 512},
                         {"rms_norm_eps", 1e-05},
                         {"rope_theta", 10000.0},
                         {"rope_scaling", nullptr},
                         {"bos_token_id", 0},
                         {"eos_token_id", 2}};
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(config.value(key, json("missing")), value) << key;
  const ModelConfig read = ModelConfig::from(ModelFile::open(out_));
  EXPECT_EQ(read.windows, (std::vector<Pos>{0, 0, 64, 0}));
  EXPECT_EQ(read.forward_passes, 3);
  convert(kHfFolders + "llama-llama3", "0_1_2_3");  // has rope_parameters, which transformers 4 does not know
  const json llama3 = read_json(out_ + "/config.json");
  EXPECT_FALSE(llama3.contains("rope_parameters") || llama3.contains("dtype") || llama3.contains("auto_map"));
  EXPECT_EQ(llama3.at("rope_scaling").at("rope_type"), "llama3");
}

TEST_F(Convert, ATiedHeadStaysTied) {
  with("llama", {{"tie_word_embeddings", true}});
  Tensors tensors = read();
  const auto offsets = [&](const char* name) { return tensors.header[name]["data_offsets"][0].get<std::size_t>(); };
  const std::size_t bytes = std::size_t{271} * 32 * 4;
  tensors.data.replace(offsets("lm_head.weight"), bytes,
                       tensors.data.substr(offsets("model.embed_tokens.weight"), bytes));
  write(tensors);
  const LckvResult result = convert(path_, "0_2_2_3");
  EXPECT_TRUE(read_json(out_ + "/config.json").at("tie_word_embeddings").get<bool>());
  EXPECT_EQ(HfFolder::open(out_).tensors().find("output.weight"), nullptr);
  EXPECT_EQ(result.parameters_after + 271 * 32 + 2 * 16 * 32,
            convert(kHfFolders + "llama", "0_1_2_3").parameters_before);
}

TEST_F(Convert, RefusesWhatIsNoOrdinaryLlama) {
  EXPECT_EQ(error_of(kTiny + "gemma3.gguf", "0_1_2_3_4_5"),
            ": the architecture is \"gemma3\", expected \"llama\": the result is an LCKV model, which is a Llama whose "
            "layers were ordinary before");
  EXPECT_TRUE(error_of(kHfFolders + "lckv-cyclic", "0_1_2_3").starts_with(": the architecture is \"lckv-llama\""));
  EXPECT_TRUE(error_of(kHfFolders + "opt-llama", "0_1_2_3").starts_with(": the architecture is \"opt-llama\""));
  EXPECT_TRUE(error_of(kTiny + "llama-rope-llama3.gguf", "0_1_2_3").starts_with(": tensor \"rope_freqs.weight\""));
}

TEST_F(Convert, RefusesMissingKeysAndValuesEvenWhereTheResultHasNone) {
  for (const char* matrix : {"k", "v"}) {
    copy("llama");
    Tensors tensors = read();
    const std::string name = fmt::format("model.layers.1.self_attn.{}_proj.weight", matrix);
    tensors.header["model.layers.3.self_attn.x"] = tensors.header[name];
    tensors.header.erase(name);
    write(tensors);
    EXPECT_TRUE(error_of(path_, "0_0_2_3").find("\"model.layers.3.self_attn.x\" is not part") != std::string::npos);
    tensors.header["model.layers.0.self_attn.rotary_emb.inv_freq"] = tensors.header["model.layers.3.self_attn.x"];
    tensors.header.erase("model.layers.3.self_attn.x");
    write(tensors);
    for (const char* map : {"0_0_2_3", "0_2_2_3"})
      EXPECT_EQ(error_of(path_, map),
                fmt::format(": tensor \"{}\" (here \"blk.1.attn_{}.weight\") is missing", name, matrix))
          << map;
  }
}

TEST_F(Convert, RefusesWeightsThatTheTypeDoesNotHold) {
  copy("llama");
  Tensors tensors = read();
  const auto at = tensors.header["model.layers.2.mlp.up_proj.weight"]["data_offsets"][0].get<std::size_t>();
  const float large = 70000;
  tensors.data.replace(at + 32 * 4 + 8, 4, reinterpret_cast<const char*>(&large), 4);
  write(tensors);
  EXPECT_EQ(error_of(path_, "0_2_2_3", TensorType::kF16),
            ": tensor \"model.layers.2.mlp.up_proj.weight\" (here \"blk.2.ffn_up.weight\") holds 70000 in row 1, which "
            "F16 does not");
  EXPECT_EQ(error_of(path_, "0_2_2_3", TensorType::kBF16), "no error");
}

TEST_F(Convert, WritesNothingWhereItMayNot) {
  const ModelFile source = ModelFile::open(kHfFolders + "llama");
  const auto error = [&](const std::string& folder) -> std::string {
    try {
      convert_lckv(source, map_of("0_2_2_3"), TensorType::kF32, folder, [](std::size_t, std::size_t) {});
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  fs::create_directories(out_);
  EXPECT_EQ(error(out_), "no error");  // was empty
  EXPECT_EQ(error(out_), out_ + ": exists, expected a folder to be made or an empty one");
  EXPECT_EQ(error(out_ + "/config.json"), out_ + "/config.json: exists, expected a folder to be made or an empty one");
  fs::create_directories(out_ + "/new.part");
  EXPECT_EQ(error(out_ + "/new/"),
            out_ + "/new.part: is there, from a conversion that was cut short perhaps: remove it");
  EXPECT_TRUE(fs::exists(out_ + "/new.part"));
  EXPECT_EQ(error(out_ + "/none/new"), out_ + "/none/new.part: cannot be made: No such file or directory");
  EXPECT_FALSE(fs::exists(out_ + "/none"));
  EXPECT_THROW(convert_lckv(source, map_of("0_2_2_3"), TensorType::kF32, out_ + "/x",
                            [](std::size_t done, std::size_t) { require(done < 3, "stopped"); }),
               Error);
  EXPECT_FALSE(fs::exists(out_ + "/x") || fs::exists(out_ + "/x.part"));
}

TEST_F(Convert, TokenizerAndTemplateComeAlong) {
  const ModelFile source = ModelFile::open(kTiny + "llama-gqa.gguf");
  EXPECT_EQ(convert(source.path(), "0_2_2_3").no_tokenizer, "");
  const ModelFile made = ModelFile::open(out_);
  expect_same(load_tokenizer(source), load_tokenizer(made));
  EXPECT_FALSE(chat_template(source).empty());
  EXPECT_EQ(chat_template(source), chat_template(made));
  EXPECT_EQ(convert(kHfFolders + "llama", "0_2_2_3").no_tokenizer, "");
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    EXPECT_EQ(read_json(out_ + "/" + file), read_json(kHfFolders + "llama/" + file));
  EXPECT_TRUE(convert(kHfFolders + "llama-llama3", "0_2_2_3").no_tokenizer.ends_with("no tokenizer.json in it"));
}

}  // namespace
}  // namespace lamina
