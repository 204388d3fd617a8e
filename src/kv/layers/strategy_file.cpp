// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/strategy_file.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace lamina {
namespace {

using nlohmann::json;

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

}  // namespace

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
