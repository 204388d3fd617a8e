// SPDX-License-Identifier: Apache-2.0
// What a Hugging Face config.json says of a model, and which fields are refused.
#include <gtest/gtest.h>

#include "model/changed_folder.h"

namespace lamina {
namespace {

using nlohmann::json;
using HfConfig = ChangedFolder;

TEST_F(HfConfig, OfLckv) {
  const auto of = [](const std::string& name) { return ModelConfig::from(ModelFile::open(kHfFolders + name)); };
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

TEST_F(HfConfig, FieldsThatAreRefused) {
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

TEST_F(HfConfig, RopeThatIsRefused) {
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

TEST_F(HfConfig, LayerTypesThatAreRefused) {
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

TEST_F(HfConfig, OldLayerTypesThatAreRefused) {
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

}  // namespace
}  // namespace lamina
