// SPDX-License-Identifier: Apache-2.0
// What a GGUF file's metadata say of the model.
#include <cmath>

#include "base/error.h"
#include "model/config.h"
#include "model/dequant.h"
#include "model/gguf.h"

namespace lamina {
namespace {

struct Reader {
  const GgufFile& file;
  std::string prefix;

  std::string key(std::string_view name) const { return prefix + "." + std::string(name); }
  int count(std::string_view name, std::int64_t low = 1) const { return checked(name, file.integer(key(name)), low); }
  int count_or(std::string_view name, std::int64_t fallback) const {
    return checked(name, file.integer(key(name), fallback), 1);
  }
  int checked(std::string_view name, std::int64_t value, std::int64_t low) const {
    require(value >= low && value <= kMostCount, "{}: {} is {}, expected {} to {}", file.path(), key(name), value, low,
            kMostCount);
    return static_cast<int>(value);
  }
  double positive(std::string_view name, double fallback) const {
    const double value = file.number(key(name), fallback);
    require(std::isfinite(value) && value > 0, "{}: {} is {}, expected a positive number", file.path(), key(name),
            value);
    return value;
  }
};

int same_in_all_layers(const Reader& in, std::string_view name, int layers, int fallback) {
  if (!in.file.has(in.key(name))) return fallback;
  const auto values = in.file.integers(in.key(name));
  require(values.size() == 1 || values.size() == static_cast<std::size_t>(layers),
          "{}: {} has {} values, expected 1 or one for each of the {} layers", in.file.path(), in.key(name),
          values.size(), layers);
  for (const auto value : values)
    require(value == values.front(), "{}: {} differs between layers ({} and {}): not supported", in.file.path(),
            in.key(name), values.front(), value);
  return in.checked(name, values.front(), 1);
}

RopeConfig read_rope(const Reader& in, const ModelConfig& config, bool interleaved) {
  RopeConfig rope;
  rope.dims = in.count_or("rope.dimension_count", config.head_dim);
  require(rope.dims <= config.head_dim && rope.dims % 2 == 0, "{}: {} is {}, expected an even number up to {}",
          in.file.path(), in.key("rope.dimension_count"), rope.dims, config.head_dim);
  rope.base = in.positive("rope.freq_base", 10000);
  rope.interleaved = interleaved;
  const auto type = in.file.string(in.key("rope.scaling.type"), "none");
  const double old_linear = in.positive("rope.scale_linear", 1);  // files from before rope.scaling.*
  rope.factor = in.positive("rope.scaling.factor", old_linear);
  if (type == "linear" || (type == "none" && rope.factor != 1 && !in.file.has(in.key("rope.scaling.type")))) {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.original_context = in.positive("rope.scaling.original_context_length", config.context);
    // Files name either what the usual 0.1 ln(factor) + 1 is multiplied by, or what stands in its place.
    rope.attention_factor = in.positive("rope.scaling.attn_factor", 1);
    if (in.file.has(in.key("rope.scaling.yarn_attn_factor")))
      rope.attention_factor = in.positive("rope.scaling.yarn_attn_factor", 1) / (0.1 * std::log(rope.factor) + 1);
    rope.extrapolation = in.file.number(in.key("rope.scaling.yarn_ext_factor"), 1);
    rope.beta_fast = in.positive("rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = in.positive("rope.scaling.yarn_beta_slow", 1);
  } else {
    // llama3's scaling arrives as the tensor rope_freqs.weight, whatever the type says.
    require(type == "none" || type == "llama3", "{}: {} is \"{}\", expected none, linear, llama3 or yarn",
            in.file.path(), in.key("rope.scaling.type"), type);
  }
  if (const TensorView* factors = in.file.find("rope_freqs.weight")) {
    require(factors->type == TensorType::kF32 && factors->cols() == rope.dims / 2 && factors->rows() == 1,
            "{}: tensor \"rope_freqs.weight\" is {} values of type {}, expected {} of type F32", in.file.path(),
            factors->rows() * factors->cols(), lamina::name(factors->type), rope.dims / 2);
    rope.frequency_factors.resize(static_cast<std::size_t>(rope.dims / 2));
    dequantize(factors->type, factors->data, rope.frequency_factors);
    for (const float value : rope.frequency_factors)
      require(std::isfinite(value) && value > 0, "{}: tensor \"rope_freqs.weight\" holds {}, expected positive numbers",
              in.file.path(), value);
  }
  return rope;
}

// Which layers of gemma3 look at a window only: all but every `pattern`-th, or as an array says.
std::vector<Pos> read_windows(const Reader& in, int layers) {
  const Pos window = in.count("attention.sliding_window");
  const std::string key = in.key("attention.sliding_window_pattern");
  std::vector<Pos> windows(static_cast<std::size_t>(layers));
  const auto value = in.file.metadata().find(key);
  if (value != in.file.metadata().end() && std::holds_alternative<GgufArray>(value->second)) {
    const auto local = in.file.booleans(key);
    require(local.size() == windows.size(), "{}: {} has {} values, expected {}", in.file.path(), key, local.size(),
            layers);
    for (std::size_t l = 0; l < windows.size(); ++l) windows[l] = local[l] ? window : 0;
  } else {
    const int pattern = in.count_or("attention.sliding_window_pattern", 6);
    for (int l = 0; l < layers; ++l) windows[static_cast<std::size_t>(l)] = (l + 1) % pattern != 0 ? window : 0;
  }
  return windows;
}

void read_gemma3(const Reader& in, ModelConfig& config) {
  config.windows = read_windows(in, config.layers);
  config.embedding_scale = std::sqrt(static_cast<float>(config.hidden));
  // The 27B model (62 layers) alone scales by the width of a head in the residual stream.
  const double width = config.layers == 62 ? static_cast<double>(config.hidden) / config.heads : config.head_dim;
  config.attention_scale = static_cast<float>(1 / std::sqrt(width));
  config.rope = read_rope(in, config, false);
  config.window_rope = RopeConfig{.dims = config.rope.dims, .base = in.positive("rope.freq_base_swa", 10000)};
  const double softcap = in.file.number(in.key("final_logit_softcapping"), 0.0);
  require(softcap == 0, "{}: {} is {}: not supported", in.file.path(), in.key("final_logit_softcapping"), softcap);
}

void read_llama(const Reader& in, ModelConfig& config) {
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
  config.rope = read_rope(in, config, true);
  config.windows.assign(static_cast<std::size_t>(config.layers), 0);
  if (in.file.has(in.key("attention.sliding_window")) && in.file.integer(in.key("attention.sliding_window")) > 0) {
    config.windows.assign(config.windows.size(), in.count("attention.sliding_window"));
    config.window_rope = config.rope;
  }
  const auto experts = in.file.integer(in.key("expert_count"), 0);
  require(experts == 0, "{}: {} is {}: mixtures of experts are not supported", in.file.path(), in.key("expert_count"),
          experts);
}

}  // namespace

ModelConfig read_config(const GgufFile& file) {
  const std::string architecture(file.string("general.architecture"));
  require(architecture == "llama" || architecture == "gemma3",
          "{}: general.architecture is \"{}\", expected \"llama\" or \"gemma3\"", file.path(), architecture);
  const Reader in{file, architecture};
  ModelConfig config;
  config.architecture = architecture == "llama" ? Architecture::kLlama : Architecture::kGemma3;
  config.name = file.string("general.name", file.path());
  config.layers = in.count("block_count");
  require(config.layers <= kMostLayers, "{}: {} is {}, expected at most {}", file.path(), in.key("block_count"),
          config.layers, kMostLayers);
  config.hidden = in.count("embedding_length");
  config.ffn = same_in_all_layers(in, "feed_forward_length", config.layers, 0);
  require(config.ffn > 0, "{}: {} is missing", file.path(), in.key("feed_forward_length"));
  config.heads = same_in_all_layers(in, "attention.head_count", config.layers, 0);
  require(config.heads > 0, "{}: {} is missing", file.path(), in.key("attention.head_count"));
  config.kv_heads = same_in_all_layers(in, "attention.head_count_kv", config.layers, config.heads);
  require(config.heads % config.kv_heads == 0, "{}: {} is {}, expected a divisor of the {} query heads", file.path(),
          in.key("attention.head_count_kv"), config.kv_heads, config.heads);
  require(in.file.has(in.key("attention.key_length")) || config.hidden % config.heads == 0,
          "{}: {} is missing and {} channels do not divide among {} heads", file.path(), in.key("attention.key_length"),
          config.hidden, config.heads);
  config.head_dim = in.count_or("attention.key_length", std::max(1, config.hidden / config.heads));
  require(config.head_dim <= kMostHeadDim && config.head_dim % 2 == 0, "{}: {} is {}, expected an even number up to {}",
          file.path(), in.key("attention.key_length"), config.head_dim, kMostHeadDim);
  require(std::int64_t{config.heads} * config.head_dim <= kMostCount,
          "{}: {} heads of {} channels, expected at most {} in all", file.path(), config.heads, config.head_dim,
          kMostCount);
  const int value_dim = in.count_or("attention.value_length", config.head_dim);
  require(value_dim == config.head_dim, "{}: {} is {}, expected {} as for keys", file.path(),
          in.key("attention.value_length"), value_dim, config.head_dim);
  config.context = in.count("context_length");
  config.norm_eps = static_cast<float>(in.positive("attention.layer_norm_rms_epsilon", 1e-5));
  config.architecture == Architecture::kGemma3 ? read_gemma3(in, config) : read_llama(in, config);
  return config;
}

}  // namespace lamina
