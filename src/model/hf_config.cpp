// SPDX-License-Identifier: Apache-2.0
// What a Hugging Face config.json says of the model. A field that changes the arithmetic is either followed or refused.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "kv/layers/layer_map.h"
#include "model/config.h"
#include "model/hf_folder.h"

namespace lamina {
namespace {

using nlohmann::json;

constexpr int kMostPasses = 1000;

// The fields of an object; one that is null counts as absent.
class Fields {
 public:
  // `prefix` stands before a field's name in errors: "DIR/config.json: rope_scaling."
  Fields(const json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

  const json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  void check(bool ok, const char* key, std::string_view expected) const {
    const json* found = find(key);
    if (!ok) fail("{}{} is {}, expected {}", prefix_, key, found == nullptr ? "missing" : shown(*found), expected);
  }

  int integer(const char* key, std::optional<int> fallback, std::int64_t low, std::int64_t high) const {
    const json* value = find(key);
    if (value == nullptr && fallback) return *fallback;
    const bool ok = value != nullptr && value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<std::uint64_t>() <= std::uint64_t{1} << 62) &&
                    value->get<std::int64_t>() >= low && value->get<std::int64_t>() <= high;
    check(ok, key, fmt::format("an integer from {} to {}", low, high));
    return value->get<int>();
  }
  int count(const char* key, std::optional<int> fallback = {}) const { return integer(key, fallback, 1, kMostCount); }

  double positive(const char* key, std::optional<double> fallback = {}) const {
    const json* value = find(key);
    if (value == nullptr && fallback) return *fallback;
    const bool ok = value != nullptr && value->is_number() && value->get<double>() > 0;
    check(ok, key, "a positive number");
    return value->get<double>();
  }

  bool boolean(const char* key, bool fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_boolean(), key, "true or false");
    return value->get<bool>();
  }

  std::string string(const char* key, std::optional<std::string> fallback = {}) const {
    const json* value = find(key);
    if (value == nullptr && fallback) return *fallback;
    check(value != nullptr && value->is_string(), key, "a string");
    return value->get<std::string>();
  }

  // For what changes the arithmetic and is followed in one way only.
  void only(const char* key, const json& value) const {
    const json* found = find(key);
    if (found != nullptr && *found != value) check(false, key, shown(value));
  }

  Fields object(const char* key) const {
    const json* value = find(key);
    check(value != nullptr && value->is_object(), key, "an object");
    return {*value, fmt::format("{}{}.", prefix_, key)};
  }

  const std::string& prefix() const { return prefix_; }

 private:
  const json& object_;
  std::string prefix_;
};

// ---- rope -----------------------------------------------------------------------------------------------------------

// Llama 3.1: pairs that turn less than `low` times in the original context are stretched by the factor, those above
// `high` turns are left alone, those between are blended.
std::vector<float> llama3_factors(const Fields& in, const RopeConfig& rope, double context) {
  const double factor = in.positive("factor"), length = in.positive("original_max_position_embeddings", context);
  const double low = in.positive("low_freq_factor"), high = in.positive("high_freq_factor");
  in.check(high > low, "high_freq_factor", fmt::format("more than low_freq_factor, {}", low));
  std::vector<float> factors;
  for (int pair = 0; pair < rope.dims / 2; ++pair) {
    const double turns = length * std::pow(rope.base, -2.0 * pair / rope.dims) / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / (kept + (1 - kept) / factor)));
  }
  return factors;
}

void read_yarn(const Fields& in, RopeConfig& rope, double context) {
  rope.scaling = RopeScaling::kYarn;
  rope.original_context = in.positive("original_max_position_embeddings", context);
  rope.beta_fast = in.positive("beta_fast", 32);
  rope.beta_slow = in.positive("beta_slow", 1);
  // The file's factor stands in the place of the usual one, which RopeConfig multiplies by.
  const double usual = 0.1 * std::log(rope.factor) + 1;
  rope.attention_factor = in.positive("attention_factor", usual) / usual;
  in.only("truncate", true);
  for (const char* key : {"mscale", "mscale_all_dim"}) in.check(in.find(key) == nullptr, key, "none: not supported");
}

void read_scaling(const Fields& in, RopeConfig& rope, double context) {
  const char* const key = in.find("rope_type") != nullptr ? "rope_type" : "type";  // "type" before 2024
  const std::string type = in.string(key, "default");
  in.only("partial_rotary_factor", 1);
  if (type == "default") return;
  in.check(type == "linear" || type == "llama3" || type == "yarn", key,
           "\"default\", \"linear\", \"llama3\" or \"yarn\"");
  const double factor = in.positive("factor");
  in.check(factor >= 1, "factor", "at least 1");
  if (type == "llama3") {
    rope.frequency_factors = llama3_factors(in, rope, context);
    return;
  }
  rope.factor = factor;
  rope.scaling = RopeScaling::kLinear;
  if (type == "yarn") read_yarn(in, rope, context);
}

// transformers 5 writes rope_parameters, which hold rope_theta too; before it was rope_scaling, and rope_theta beside
// it.
RopeConfig read_rope(const Fields& in, const ModelConfig& config) {
  RopeConfig rope{.dims = config.head_dim, .base = in.positive("rope_theta", 10000)};
  in.only("partial_rotary_factor", 1);
  const bool old = in.find("rope_scaling") != nullptr;
  in.check(!old || in.find("rope_parameters") == nullptr, "rope_scaling", "none beside rope_parameters");
  if (!old && in.find("rope_parameters") == nullptr) return rope;
  const Fields parameters = in.object(old ? "rope_scaling" : "rope_parameters");
  if (in.find("rope_theta") != nullptr) parameters.only("rope_theta", *in.find("rope_theta"));
  rope.base = parameters.positive("rope_theta", rope.base);
  read_scaling(parameters, rope, config.context);
  return rope;
}

// ---- layers that share their K and V: LCKV --------------------------------------------------------------------------

std::vector<LayerType> read_layer_types(const Fields& in, const ModelConfig& config, int most) try {
  std::vector<LayerType> types = parse_layer_types(in.string("layer_types"));
  require(types.size() == static_cast<std::size_t>(config.layers), "{} items, expected {}, as num_hidden_layers says",
          types.size(), config.layers);
  for (std::size_t layer = 0; layer < types.size(); ++layer)
    require(types[layer].target <= most, "item {} is {}, expected 0 to {}", layer, types[layer].target, most);
  return types;
} catch (const Error& error) {
  if (std::string_view(error.what()).starts_with(in.prefix())) throw;
  fail("{}layer_types: {}", in.prefix(), error.what());
}

void read_lckv(const Fields& in, ModelConfig& config) {
  in.only("use_sequential", false);  // prompts would go token by token
  config.forward_passes = in.integer("forward_passes", 7, 0, kMostPasses);
  config.backward_passes = in.integer("backward_passes", 2, 1, kMostPasses);
  config.no_diagonal = in.boolean("force_nodiag", false);
  if (in.find("layer_types") == nullptr) return;
  for (const LayerType& type : read_layer_types(in, config, config.layers - 1)) {
    if (type.sliding) config.windows[config.targets.size()] = in.count("sliding_window", 4096);
    config.targets.push_back(type.target);
  }
}

// The code of LCKV's first publication: layers of type 0 read their own rows, 1 and 2 those of the only layer of type
// 2; no layer sees a token's own row.
void read_old_lckv(const Fields& in, ModelConfig& config) {
  for (const char* key : {"num_warmup_layers", "train_last_encoder"})
    in.check(in.find(key) == nullptr, key, "none: layer_types, target_layer and num_trained_encoders in its place");
  const int encoders = in.integer("num_encoders", 8, 0, kMostPasses);         // m + b - 1
  const int trained = in.integer("num_trained_encoders", 1, 0, kMostPasses);  // b - 1
  in.check(trained <= encoders, "num_trained_encoders", fmt::format("at most num_encoders, {}", encoders));
  config.forward_passes = encoders - trained;
  config.backward_passes = trained + 1;
  config.no_diagonal = true;
  if (in.find("layer_types") == nullptr) return;
  const int target =
      (in.integer("target_layer", -1, -config.layers, config.layers - 1) + config.layers) % config.layers;
  const std::vector<LayerType> types = read_layer_types(in, config, 2);
  for (int layer = 0; layer < config.layers; ++layer) {
    const LayerType& type = types[static_cast<std::size_t>(layer)];
    in.check(!type.sliding, "layer_types", "no \"s\"");
    in.check(type.target != 2 || layer == target, "layer_types",
             fmt::format("the 2 at layer {} only, target_layer", target));
    in.check(type.target != 1 || types[static_cast<std::size_t>(target)].target == 2, "layer_types",
             fmt::format("a 2 at layer {}, target_layer", target));
    config.targets.push_back(type.target == 0 ? layer : target);
  }
}

// ---- the rest -------------------------------------------------------------------------------------------------------

void read_shape(const Fields& in, ModelConfig& config) {
  config.layers = in.integer("num_hidden_layers", {}, 1, kMostLayers);
  config.hidden = in.count("hidden_size");
  config.ffn = in.count("intermediate_size");
  config.heads = in.count("num_attention_heads");
  config.kv_heads = in.count("num_key_value_heads", config.heads);
  in.check(config.heads % config.kv_heads == 0, "num_key_value_heads",
           fmt::format("a divisor of num_attention_heads, {}", config.heads));
  in.check(in.find("head_dim") != nullptr || config.hidden % config.heads == 0, "head_dim",
           fmt::format("a number: hidden_size {} does not divide among {} heads", config.hidden, config.heads));
  config.head_dim = in.count("head_dim", std::max(1, config.hidden / config.heads));
  require(config.head_dim <= kMostHeadDim && config.head_dim % 2 == 0,
          "{}head_dim is {}, expected an even number up to {}", in.prefix(), config.head_dim, kMostHeadDim);
  require(std::int64_t{config.heads} * config.head_dim <= kMostCount,
          "{}num_attention_heads: {} heads of {} channels, expected at most {} in all", in.prefix(), config.heads,
          config.head_dim, kMostCount);
  config.context = in.count("max_position_embeddings", 2048);
}

void refuse_what_changes_the_arithmetic(const Fields& in) {
  in.only("hidden_act", "silu");
  in.only("attention_bias", false);
  in.only("mlp_bias", false);
  in.check(in.find("quantization_config") == nullptr, "quantization_config", "none: not supported");
}

// Without lm_head.weight the embedding serves as the head, which the config must say.
void check_embedding(const Fields& in, const HfFolder& folder) {
  const TensorView* head = folder.tensors().find("output.weight");
  const TensorView* embedding = folder.tensors().find("token_embd.weight");
  if (embedding != nullptr)
    in.check(in.count("vocab_size") == embedding->rows(), "vocab_size",
             fmt::format("{}, as model.embed_tokens.weight has rows", embedding->rows()));
  const bool tied = in.boolean("tie_word_embeddings", false);
  in.check(tied || head != nullptr, "tie_word_embeddings", "true, as the folder has no tensor \"lm_head.weight\"");
  const bool same = head == nullptr || embedding == nullptr ||
                    (head->type == embedding->type && std::ranges::equal(head->data, embedding->data));
  in.check(!tied || same, "tie_word_embeddings",
           "false, as tensor \"lm_head.weight\" differs from \"model.embed_tokens.weight\"");
}

}  // namespace

ModelConfig read_config(const HfFolder& folder) {
  const Fields in(folder.config(), folder.config_path() + ": ");
  const std::string type = folder.model_type();
  in.check(type == "llama" || type == "lckv-llama" || type == "opt-llama", "model_type",
           "\"llama\", \"lckv-llama\" or \"opt-llama\"");
  refuse_what_changes_the_arithmetic(in);
  ModelConfig config;
  config.architecture = Architecture::kLlama;
  config.name = folder.path().substr(folder.path().rfind('/') + 1);
  read_shape(in, config);
  config.norm_eps = static_cast<float>(in.positive("rms_norm_eps", 1e-6));
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
  config.rope = config.window_rope = read_rope(in, config);
  config.windows.assign(static_cast<std::size_t>(config.layers), 0);
  if (type == "lckv-llama") read_lckv(in, config);
  if (type == "opt-llama") read_old_lckv(in, config);
  in.check(type != "llama" || in.find("layer_types") == nullptr, "layer_types", "none for a model_type \"llama\"");
  check_embedding(in, folder);
  return config;
}

}  // namespace lamina
