// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "kv/layers/layer_map.h"
#include "kv/layers/strategy_file.h"

namespace lamina {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kSchema = "lamina.kvsharer/1";

std::vector<int> parse_own_form(const json& root, const std::string& file, const KvShape& shape) {
  require_strategy(root, kSchema, file, shape);
  require(root.contains("map"), "{}: the field map is missing", file);
  const json& map = root["map"];
  require(map.is_array() && static_cast<int>(map.size()) == shape.layers,
          "{}: map is {}, expected an array of {} layer numbers", file,
          map.is_array() ? fmt::format("an array of {}", map.size()) : shown(map), shape.layers);
  std::vector<int> target;
  for (std::size_t layer = 0; layer < map.size(); ++layer) {
    target.push_back(layer_number(map[layer], shape.layers, file, fmt::format("map[{}]", layer)));
    const int source = target.back();
    require(source <= static_cast<int>(layer), "{}: map[{}] is {}, expected the layer itself or an earlier one", file,
            layer, source);
    require(target[static_cast<std::size_t>(source)] == source,
            "{}: map[{}] is {}, which reads layer {} itself; expected a layer that is not replaced", file, layer,
            source, target[static_cast<std::size_t>(source)]);
  }
  return target;
}

std::vector<int> parse_published_form(const json& root, const std::string& file, const KvShape& shape) {
  std::vector<int> target = identity_targets(shape.layers);
  for (const auto& [key, value] : root.items()) {
    int layer = -1;
    std::from_chars(key.data(), key.data() + key.size(), layer);
    require(layer >= 0 && layer < shape.layers && key == std::to_string(layer),
            "{}: found the field {}, expected \"schema\" or a layer from 0 to {}", file, shown(key), shape.layers - 1);
    const int source = layer_number(value, shape.layers, file, fmt::format("the source of layer {}", layer));
    require(source <= layer, "{}: the source of layer {} is layer {}, expected an earlier one", file, layer, source);
    target[static_cast<std::size_t>(layer)] = source;
  }
  // A source may have been replaced as well: its users move to its own source (ascending, so that one pass is enough).
  for (int& source : target) source = target[static_cast<std::size_t>(source)];
  return target;
}

ordered_json options_json(const KvSharerOptions& options) {
  static constexpr const char* kObjectives[] = {"cosine", "kl", "beam"};
  static constexpr const char* kOrders[] = {"dissimilar", "similar", "random"};
  const RankingOptions& ranking = options.ranking;
  ordered_json out{{"share", options.share},
                   {"distance", ranking.distance == LayerDistance::kHead ? "head" : "flat"},
                   {"order", kOrders[static_cast<int>(ranking.order)]}};
  if (ranking.order == LayerOrder::kRandom) out["seed"] = ranking.seed;
  out["objective"] = kObjectives[static_cast<int>(options.objective)];
  if (options.objective == KvSharerObjective::kCosine) {
    out["threshold"] = options.threshold;
  } else {
    out["candidates"] = options.candidates;
    out["kl_sentences"] = options.kl_sentences;
  }
  if (options.objective == KvSharerObjective::kBeam) out["beam"] = options.width;
  out["across_kinds"] = ranking.across_kinds;
  out["kv"] = options.kv.empty() ? ordered_json(nullptr) : ordered_json(options.kv);
  return out;
}

}  // namespace

KvSharerStrategy load_kvsharer(const std::string& file, const KvShape& shape) {
  const std::string content = read_strategy(file);
  return {.target = parse_kvsharer(content, file, shape), .sha256 = sha256_hex(content)};
}

std::vector<int> parse_kvsharer(std::string_view text, const std::string& file, const KvShape& shape) {
  const json root = parse_json(text, file);
  require(root.is_object(), "{}: found {}, expected a JSON object", file, shown(root));
  return root.contains("schema") ? parse_own_form(root, file, shape) : parse_published_form(root, file, shape);
}

std::string print_kvsharer(const KvSharerSearch& search, const KvShape& shape) {
  const char* const score = search.options.objective == KvSharerObjective::kCosine ? "cosine" : "kl";
  const auto trials_json = [score](const std::vector<LayerTrial>& trials) {
    ordered_json list = ordered_json::array();
    for (const LayerTrial& trial : trials)
      list.push_back({{"layer", trial.layer}, {"source", trial.source}, {"rank", trial.rank}, {score, trial.score}});
    return list;
  };
  ordered_json root = strategy_head(kSchema, search.architecture, search.calibration, shape);
  root["options"] = options_json(search.options);
  root["map"] = search.choice.target;
  root["accepted"] = trials_json(search.choice.accepted);
  root["rejected"] = trials_json(search.choice.rejected);
  root["tries"] = search.choice.tries;
  root["exhausted"] = search.exhausted();
  root["cosine"] = search.cosine;
  root["seconds"] = search.seconds;
  ordered_json& ranking = root["ranking"] = ordered_json::array();
  for (const LayerPair& pair : search.ranking)
    ranking.push_back(ordered_json::array({pair.layer, pair.source, pair.distance}));
  return print_strategy(root);
}

}  // namespace lamina
