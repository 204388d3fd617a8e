// SPDX-License-Identifier: Apache-2.0
#include "model/lckv_config.h"

#include <cmath>

#include "base/error.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

using nlohmann::json;

// A float as people write it: 1e-05, where its exact value is 9.99999974737875163555e-06.
json shortest(float value) { return json::parse(fmt::format("{}", value)); }
json shortest(double value) { return shortest(static_cast<float>(value)); }

std::string_view torch_dtype(TensorType type) {
  return type == TensorType::kF32 ? "float32" : type == TensorType::kF16 ? "float16" : "bfloat16";
}

json rope_scaling(const GgufFile& file, const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  require(rope.frequency_factors.empty(),
          "{}: tensor \"rope_freqs.weight\" stretches the frequencies of rope one by one, which config.json can only "
          "say by the parameters that they were made from; expected the model's Hugging Face folder",
          file.path());
  require(rope.dims == config.head_dim,
          "{}: rope turns {} of a head's {} channels, expected all: config.json has no word for less", file.path(),
          rope.dims, config.head_dim);
  if (rope.scaling == RopeScaling::kNone) return nullptr;
  if (rope.scaling == RopeScaling::kLinear) return {{"rope_type", "linear"}, {"factor", shortest(rope.factor)}};
  require(rope.extrapolation == 1, "{}: the share of yarn's ramp (yarn_ext_factor) is {}, expected 1", file.path(),
          rope.extrapolation);
  return {{"rope_type", "yarn"},
          {"factor", shortest(rope.factor)},
          {"original_max_position_embeddings", static_cast<std::int64_t>(rope.original_context)},
          {"attention_factor", rope.attention_factor * (0.1 * std::log(rope.factor) + 1)},
          {"beta_fast", shortest(rope.beta_fast)},
          {"beta_slow", shortest(rope.beta_slow)}};
}

void name_tokens(const GgufFile& file, json& out) {
  if (!file.has("tokenizer.ggml.model")) return;
  const TokenizerData data = tokenizer_data(file);
  if (data.bos) out["bos_token_id"] = *data.bos;
  if (data.eos) out["eos_token_id"] = *data.eos;
}

json from_gguf(const GgufFile& file, const ModelConfig& config) {
  json out = {{"hidden_size", config.hidden},
              {"intermediate_size", config.ffn},
              {"num_hidden_layers", config.layers},
              {"num_attention_heads", config.heads},
              {"num_key_value_heads", config.kv_heads},
              {"head_dim", config.head_dim},
              {"max_position_embeddings", config.context},
              {"vocab_size", config.vocab},
              {"rms_norm_eps", shortest(config.norm_eps)},
              {"rope_theta", shortest(config.rope.base)},
              {"rope_scaling", rope_scaling(file, config)},
              {"hidden_act", "silu"},
              {"attention_bias", false},
              {"mlp_bias", false},
              {"attention_dropout", 0.0},
              {"initializer_range", 0.02},
              {"pretraining_tp", 1},
              {"use_cache", true}};
  name_tokens(file, out);
  return out;
}

// transformers 5 has rope_parameters, with rope_theta among them.
void spell_rope_as_before(json& config) {
  const auto found = config.find("rope_parameters");
  if (found == config.end()) return;
  json rope = *found;
  config.erase(found);
  if (!rope.is_object()) return;
  if (rope.contains("rope_theta")) config["rope_theta"] = rope["rope_theta"];
  rope.erase("rope_theta");
  config["rope_scaling"] = rope.value("rope_type", json("default")) == "default" ? json(nullptr) : rope;
}

json from_folder(const HfFolder& folder, const ModelConfig& config) {
  json out = folder.config();
  // Of the file that this one was made from, or of its code.
  for (const char* key : {"_name_or_path", "auto_map", "dtype", "transformers_version"}) out.erase(key);
  spell_rope_as_before(out);
  out["head_dim"] = config.head_dim;
  return out;
}

}  // namespace

json lckv_config(const ModelFile& source, const ModelConfig& config, const LckvMap& map, TensorType type,
                 bool own_head) {
  json out = source.gguf() != nullptr ? from_gguf(*source.gguf(), config) : from_folder(*source.folder(), config);
  out.update({{"model_type", "lckv-llama"},
              {"architectures", json::array({"LCKVLlamaForCausalLM"})},
              {"layer_types", map.layer_types},
              {"forward_passes", map.forward_passes},
              {"backward_passes", map.backward_passes},
              {"sliding_window", map.window},
              {"use_sequential", false},
              {"force_nodiag", false},
              {"tie_word_embeddings", !own_head},
              {"torch_dtype", torch_dtype(type)}});
  return out;
}

}  // namespace lamina
