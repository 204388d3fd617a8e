// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/strategy_file.h"

#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace lamina {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t kMaxFileBytes = 16U << 20;  // the ranking of 1000 layers fits

void require_same_model(const json& model, const std::string& file, const KvShape& shape) {
  require(model.is_object(), "{}: model is {}, expected an object", file, shown(model));
  const auto layers = model.find("layers");
  require(layers == model.end() || (layers->is_number_integer() && *layers == shape.layers),
          "{}: model.layers is {}, this model has {} layers", file, layers == model.end() ? "" : shown(*layers),
          shape.layers);
  const auto made_for = model.find("shapes_sha256");
  if (made_for == model.end()) return;
  require(made_for->is_string(), "{}: model.shapes_sha256 is {}, expected a string", file, shown(*made_for));
  require(shape.fingerprint.empty() || *made_for == shape.fingerprint,
          "{}: made for another model (model.shapes_sha256 is {}, this model's is \"{}\")", file, shown(*made_for),
          shape.fingerprint);
}

std::string line(const ordered_json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

ordered_json model_of_file(const std::string& architecture, const KvShape& shape) {
  ordered_json model{{"architecture", architecture}, {"layers", shape.layers}};
  if (!shape.fingerprint.empty()) model["shapes_sha256"] = shape.fingerprint;
  return model;
}

ordered_json strategy_head(std::string_view schema, const std::string& architecture, const Calibration& calibration,
                           const KvShape& shape) {
  ordered_json root{{"schema", schema}, {"model", model_of_file(architecture, shape)}};
  root["calibration"] = {{"file", calibration.file},
                         {"sha256", calibration.sha256},
                         {"sentences", calibration.sentences},
                         {"tokens", calibration.tokens}};
  return root;
}

std::string print_strategy(const ordered_json& root) {
  std::string text = "{";
  for (const auto& [name, value] : root.items()) {
    fmt::format_to(std::back_inserter(text), "{}\n  \"{}\": ", text.size() > 1 ? "," : "", name);
    const bool is_list = value.is_array() && !value.empty() && value.front().is_structured();
    if (!is_list) {
      text += line(value);
      continue;
    }
    for (std::size_t i = 0; i < value.size(); ++i)
      fmt::format_to(std::back_inserter(text), "{}\n    {}", i == 0 ? "[" : ",", line(value[i]));
    text += "\n  ]";
  }
  return text + "\n}\n";
}

std::string read_strategy(const std::string& file) { return read_text(file, kMaxFileBytes, "a strategy file of "); }

void require_strategy(const json& root, std::string_view schema, const std::string& file, const KvShape& shape) {
  require(root.is_object(), "{}: found {}, expected a JSON object", file, shown(root));
  const auto found = root.find("schema");
  require(found != root.end() && *found == schema, "{}: schema is {}, expected \"{}\"", file,
          found == root.end() ? "missing" : shown(*found), schema);
  if (root.contains("model")) require_same_model(root["model"], file, shape);
}

int layer_number(const json& value, int layers, const std::string& file, std::string_view field) {
  require(value.is_number_integer() && value >= 0 && value < layers, "{}: {} is {}, expected a layer from 0 to {}",
          file, field, shown(value), layers - 1);
  return value.get<int>();
}

}  // namespace lamina
