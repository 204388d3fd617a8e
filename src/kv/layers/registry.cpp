// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/registry.h"

#include <algorithm>

#include "base/error.h"
#include "kv/layers/kvsharer.h"
#include "kv/layers/lckv.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMost = 1 << 24;

using MakeTypes = LayerTypes (*)(const Term& term, int layers);

struct NamedMap {
  std::string_view name;
  MakeTypes make;
};

GroupOwner group_owner(const Term& term, GroupOwner fallback) {
  const std::string_view name = term.choice("target", {"bottom", "middle", "top"});
  if (name.empty()) return fallback;
  return name == "bottom" ? GroupOwner::kBottom : name == "middle" ? GroupOwner::kMiddle : GroupOwner::kTop;
}

bool across_kinds(const Term& term) { return term.choice("kinds", {"same", "any"}) == "any"; }

int kv_layers(const Term& term, int layers) {
  require(term.find("kv") != nullptr, "{} does not say how many layers keep K and V, expected {}(kv=N)", term.name,
          term.name);
  return term.integer("kv", 1, layers, 1);
}

constexpr NamedMap kNamedMaps[] = {
    {"lckv", [](const Term& term, int layers) { return lckv(layers, term.integer("w", 0, kMost, 2)); }},
    {"cla",
     [](const Term& term, int layers) {
       return cla(layers, parse_integer("the group of cla", term.bare("layers of a group"), 1, kMost));
     }},
    {"yoco", [](const Term& term, int layers) { return yoco(layers, term.integer("window", 1, kMost, 16)); }},
    {"pizza",
     [](const Term& term, int layers) {
       return pizza(layers, kv_layers(term, layers), group_owner(term, GroupOwner::kBottom));
     }},
    {"sandwich",
     [](const Term& term, int layers) {
       return sandwich(layers, kv_layers(term, layers), group_owner(term, GroupOwner::kTop));
     }},
    {"lasagna",
     [](const Term& term, int layers) {
       return lasagna(layers, kv_layers(term, layers), group_owner(term, GroupOwner::kBottom));
     }},
};

// The windows that hold under marks of a map: the model's own, or `window` where the model has none at all.
std::vector<Pos> windows_of(const std::vector<bool>& sliding, Pos window, const KvShape& shape) {
  const bool marked = std::ranges::any_of(sliding, std::identity());
  const bool own = std::ranges::any_of(shape.windows, [](Pos w) { return w > 0; });
  if (!marked) return shape.windows;
  std::vector<Pos> windows;
  for (int layer = 0; layer < shape.layers; ++layer) {
    const bool slides = sliding[static_cast<std::size_t>(layer)];
    const Pos of_model = shape.window(LayerId{layer});
    require(!own || window == 0, "window={} on a model whose layers have windows of their own; expected none", window);
    require(!own || slides == (of_model > 0), "layer {} {} \"s\" in the map, but in the model it has {} window", layer,
            slides ? "is marked" : "has no", of_model > 0 ? "a" : "no");
    require(own || !slides || window > 0, "layer {} is marked \"s\", but the model has no windows; expected window=N",
            layer);
    windows.push_back(own ? of_model : slides ? window : 0);
  }
  return windows;
}

std::string options_text(const Term& term, const KvShape& shape, Pos window, bool cyclic) {
  std::string text;
  if (window > 0) text += fmt::format(",window={}", window);
  if (across_kinds(term)) text += ",kinds=any";
  if (cyclic && shape.forward_passes != KvShape{}.forward_passes) text += fmt::format(",m={}", shape.forward_passes);
  if (cyclic && shape.backward_passes != KvShape{}.backward_passes) text += fmt::format(",b={}", shape.backward_passes);
  return text;
}

void refuse_upward(std::span<const int> target) {
  for (std::size_t layer = 0; layer < target.size(); ++layer)
    require(target[layer] <= static_cast<int>(layer),
            "layer {} reads layer {} above it, which this model was not trained for: its output would be gibberish. "
            "--force runs it nevertheless, to measure speed and memory",
            layer, target[layer]);
}

// `types` on the model, with the arguments that every map takes.
LayerChoice place(const Term& term, const LayerTypes& types, const KvShape& model, UpwardMaps upward) {
  KvShape shape = model;
  shape.forward_passes = term.integer("m", 0, 1000, model.forward_passes);
  shape.backward_passes = term.integer("b", 1, 1000, model.backward_passes);
  shape.windows = windows_of(types.sliding, types.window, model);
  require_shareable(types.target, model, across_kinds(term));
  LayerChoice choice{.map = LayerMap::from_targets(types.target, shape), .minicache = {}, .text = {}, .key = {}};
  const bool cyclic = choice.map.cyclic();
  require(cyclic || (term.find("m") == nullptr && term.find("b") == nullptr),
          "no layer of {} reads one above it, so a prompt takes one pass; expected neither m= nor b=", term.name);
  if (upward == UpwardMaps::kTrainedOnly && types.target != model.targets) refuse_upward(types.target);
  if (choice.map == own_layers(model).map) return choice;
  const std::vector<bool> marks = types.window > 0 ? types.sliding : std::vector<bool>();
  choice.text = choice.key =
      fmt::format("map({}{})", print_layer_types(types.target, marks), options_text(term, shape, types.window, cyclic));
  return choice;
}

LayerTypes types_of_map(const Term& term, const KvShape& shape) {
  LayerTypes types;
  for (const LayerType& type : parse_layer_types(term.bare("0_0_2_2"))) {
    types.target.push_back(type.target);
    types.sliding.push_back(type.sliding);
  }
  require(static_cast<int>(types.target.size()) == shape.layers, "the map has {} items, the model has {} layers",
          types.target.size(), shape.layers);
  types.window = term.integer("window", 1, kMost, 0);
  require(types.window == 0 || std::ranges::any_of(types.sliding, std::identity()),
          "map has window={}, but no layer is marked \"s\"", types.window);
  return types;
}

LayerChoice make_kvsharer(const Term& term, const KvShape& shape) {
  term.expect_keys({"map", "kinds"});
  const std::string* file = term.find("map");
  require(file != nullptr, "kvsharer names no strategy file, expected kvsharer(map=FILE)");
  const KvSharerStrategy strategy = load_kvsharer(*file, shape);
  const bool across = across_kinds(term);
  require_shareable(strategy.target, shape, across);
  LayerChoice choice{.map = LayerMap::from_targets(strategy.target, shape), .minicache = {}, .text = {}, .key = {}};
  if (choice.map == own_layers(shape).map) return choice;
  const std::string_view kinds = across ? ",kinds=any" : "";
  choice.text = fmt::format("kvsharer(map={}{})", quoted(*file), kinds);
  choice.key = fmt::format("kvsharer(map=sha256:{}{})", strategy.sha256.substr(0, 16), kinds);
  return choice;
}

LayerChoice make_minicache(const Term& term, const KvShape& shape) {
  MiniCacheTerm parsed = parse_minicache(term, shape);
  LayerChoice choice{.map = LayerMap::from_pairs(parsed.config.pairs, shape),
                     .minicache = parsed.config,
                     .text = std::move(parsed.text),
                     .key = std::move(parsed.key)};
  return choice;
}

}  // namespace

std::optional<LayerChoice> make_layers(const Term& term, const KvShape& shape, UpwardMaps upward) {
  if (term.name == "kvsharer") return make_kvsharer(term, shape);
  if (term.name == "minicache") return make_minicache(term, shape);
  if (term.name == "map") {
    term.expect_value_and_keys({"window", "kinds", "m", "b"});
    return place(term, types_of_map(term, shape), shape, upward);
  }
  const auto* const named = std::ranges::find(kNamedMaps, std::string_view(term.name), &NamedMap::name);
  if (named == std::end(kNamedMaps)) return std::nullopt;
  if (term.name == "cla")
    term.expect_value_and_keys({"kinds"});
  else if (term.name == "lckv")
    term.expect_keys({"w", "kinds", "m", "b"});
  else if (term.name == "yoco")
    term.expect_keys({"window", "kinds"});
  else
    term.expect_keys({"kv", "target", "kinds", "m", "b"});
  return place(term, named->make(term, shape.layers), shape, upward);
}

LayerChoice own_layers(const KvShape& shape) {
  return {.map = LayerMap::from_targets(own_targets(shape), shape), .minicache = {}, .text = {}, .key = {}};
}

std::vector<std::string_view> layer_term_names() {
  std::vector<std::string_view> names = {"map", "kvsharer", "minicache"};
  for (const NamedMap& named : kNamedMaps) names.push_back(named.name);
  return names;
}

}  // namespace lamina
