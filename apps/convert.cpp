// SPDX-License-Identifier: Apache-2.0
// lamina convert: from one model folder to another.
#include "model/convert.h"

#include <fmt/ranges.h>

#include <cctype>
#include <memory>

#include "base/error.h"
#include "common.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kDefaultWindow = 4096;  // LCKV's own

struct Arguments {
  std::string from, map, output, dtype;
};

// A layer_types string as it stands, or a layers term of --kv.
std::string spec_of(const std::string& map) {
  const bool is_term = !map.empty() && std::isalpha(static_cast<unsigned char>(map.front())) != 0;
  if (is_term) return map;
  const bool marked = map.find('s') != std::string::npos;
  return marked ? fmt::format("map({},window={})", map, kDefaultWindow) : fmt::format("map({})", map);
}

// The spec as it is printed has every kind of map as a list of layers.
LckvMap parse_map(const std::string& text, const KvShape& shape) {
  const std::string printed = KvSpec::parse(spec_of(text), shape, UpwardMaps::kAny).text();
  const std::string identity = fmt::format("map({})", print_layer_types(identity_targets(shape.layers)));
  const std::vector<Term> terms = parse_terms(printed == "full" ? identity : printed);
  require(terms.size() == 1 && terms.front().name == "map",
          "--map is \"{}\", expected layer types like 0_2_2_3 or a map that has them: map, lckv, cla, yoco, pizza, "
          "sandwich, lasagna",
          excerpt(text));
  const Term& term = terms.front();
  LckvMap map{.layer_types = term.bare("0_0_2_2"), .window = term.integer("window", 1, kMostCount, kDefaultWindow)};
  map.forward_passes = term.integer("m", 0, kMostCount, map.forward_passes);
  map.backward_passes = term.integer("b", 1, kMostCount, map.backward_passes);
  for (const LayerType& type : parse_layer_types(map.layer_types)) map.targets.push_back(type.target);
  return map;
}

TensorType float_type(const std::string& name, const ModelFile& source) {
  if (name.empty()) return default_float_type(source);
  return name == "f32" ? TensorType::kF32 : name == "f16" ? TensorType::kF16 : TensorType::kBF16;
}

std::string millions(std::uint64_t count) { return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6); }

void report(const Arguments& args, const LckvMap& map, TensorType type, const LckvResult& result) {
  std::string text = fmt::format("{}: layer_types {}\n", args.output, map.layer_types);
  const auto to = std::back_inserter(text);
  const int layers = static_cast<int>(map.targets.size());
  int kept = 0;
  bool ordinary = map.layer_types.find('s') == std::string::npos;
  for (int layer = 0; layer < layers; ++layer) {
    const std::vector<int> readers = map.readers(layer);
    kept += readers.empty() ? 0 : 1;
    if (readers == std::vector{layer}) continue;
    ordinary = false;
    if (!readers.empty())
      fmt::format_to(to, "layer {}: K and V are the mean of layers {}\n", layer, fmt::join(readers, " "));
  }
  fmt::format_to(to, "{} of {} layers have K and V: {} bytes a token in f16\n", kept, layers, result.kv_token_bytes);
  fmt::format_to(to, "parameters {} -> {}; model.safetensors {} in {}\n", millions(result.parameters_before),
                 millions(result.parameters_after), human_bytes(static_cast<double>(result.weight_bytes)), name(type));
  if (!ordinary)
    text += "This is where training starts: until it is fine-tuned with this map, what it writes is gibberish.\n";
  print_now(text);
  if (!result.no_tokenizer.empty())
    fmt::print(stderr, "{}. The folder has no tokenizer: copy tokenizer.json from the model's original repository.\n",
               result.no_tokenizer);
}

void convert(const Arguments& args) {
  const ModelFile source = ModelFile::open(args.from);
  const ModelConfig config = ModelConfig::from(source);
  require_ordinary(source, config);
  const LckvMap map = parse_map(args.map, kv_shape(config));
  const TensorType type = float_type(args.dtype, source);
  std::optional<Progress> progress;
  const LckvResult result = convert_lckv(source, map, type, args.output, [&](std::size_t done, std::size_t total) {
    require(!interrupted(), "interrupted, nothing is written");
    if (!progress) progress.emplace("tensors", total);
    progress->update(done);
  });
  progress.reset();
  report(args, map, type, result);
}

}  // namespace

void add_convert(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* kinds = program.add_subcommand("convert", "make one model of another");
  kinds->require_subcommand(1);
  CLI::App* app = kinds->add_subcommand("lckv", "layers that share K and V, as LCKV begins its training: a folder");
  app->add_option("--from", args->from, "an ordinary Llama model: a GGUF file or a Hugging Face folder")->required();
  app->add_option("--map", args->map, "layer types, \"0_2_2_3\", or a map as in --kv, \"lckv(w=2)\"")->required();
  app->add_option("--dtype", args->dtype,
                  "f32, f16 or bf16 (default: the source's own; f16 for block formats, whose scales are f16)")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  app->add_option("-o,--output", args->output, "the folder to be made")->required();
  app->callback([args] { convert(*args); });
}

}  // namespace lamina
