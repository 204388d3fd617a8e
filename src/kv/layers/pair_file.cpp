// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/pair_file.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "kv/layers/strategy_file.h"

namespace lamina {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr std::string_view kSchema = "lamina.minicache/1";

}  // namespace

PairFile load_pairs(const std::string& file, const KvShape& shape) {
  const std::string content = read_strategy(file);
  return {.pairs = parse_pairs(content, file, shape), .sha256 = sha256_hex(content)};
}

std::vector<std::pair<int, int>> parse_pairs(std::string_view text, const std::string& file, const KvShape& shape) {
  const json root = parse_json(text, file);
  require_strategy(root, kSchema, file, shape);
  const auto found = root.find("pairs");
  require(found != root.end() && found->is_array(), "{}: the field pairs is {}, expected an array of layer pairs", file,
          found == root.end() ? "missing" : shown(*found));
  std::vector<std::pair<int, int>> pairs;
  std::vector<bool> taken(static_cast<std::size_t>(shape.layers));
  for (const json& item : *found) {
    const std::string field = fmt::format("pairs[{}]", pairs.size());
    require(item.is_array() && item.size() == 2, "{}: {} is {}, expected two layers", file, field, shown(item));
    const int lower = layer_number(item[0], shape.layers, file, field);
    const int deeper = layer_number(item[1], shape.layers, file, field);
    require(lower < deeper, "{}: {} is {}, expected the lower layer first", file, field, shown(item));
    for (const int layer : {lower, deeper}) {
      require(!taken[static_cast<std::size_t>(layer)], "{}: {} names layer {}, which is in an earlier pair", file,
              field, layer);
      taken[static_cast<std::size_t>(layer)] = true;
    }
    pairs.emplace_back(lower, deeper);
  }
  return pairs;
}

std::string print_pairs(const PairSearch& search, const KvShape& shape) {
  const PairOptions& options = search.options;
  ordered_json root = strategy_head(kSchema, search.architecture, search.calibration, shape);
  root["options"] = {{"of", options.keys && options.values ? "kv"
                            : options.keys                 ? "k"
                                                           : "v"},
                     {"vector", options.by_head ? "head" : "token"},
                     {"across_kinds", options.across_kinds}};
  root["pairs"] = search.pairs;
  ordered_json& ranking = root["ranking"] = ordered_json::array();
  for (const PairDistance& pair : search.ranking)
    ranking.push_back(ordered_json::array({pair.lower, pair.deeper, pair.distance}));
  return print_strategy(root);
}

}  // namespace lamina
