// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/layer_map.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"

namespace lamina {
namespace {

void require_in_range(std::span<const int> target) {
  const int layers = static_cast<int>(target.size());
  for (int layer = 0; layer < layers; ++layer) {
    const int read = target[static_cast<std::size_t>(layer)];
    require(read >= 0 && read < layers, "layer {} reads layer {}, the model has layers 0..{}", layer, read, layers - 1);
  }
}

LayerType parse_item(std::string_view item, std::size_t number) {
  LayerType type;
  const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), type.target);
  std::string_view suffix = item.substr(static_cast<std::size_t>(end - item.data()));
  require(error != std::errc::result_out_of_range, "layer {} reads layer {}, which is out of range", number, item);
  require(error == std::errc() && type.target >= 0 && item.front() != '-' && (suffix.empty() || suffix == "s"),
          "item {} of the map is \"{}\", expected a layer number with an optional \"s\"", number, item);
  type.sliding = !suffix.empty();
  return type;
}

}  // namespace

bool LayerMap::identity() const { return *this == identity(static_cast<int>(routes.size())); }

bool LayerMap::lagged() const { return std::ranges::any_of(routes, &Route::lagged); }

LayerMap LayerMap::from_targets(std::span<const int> target) {
  require_in_range(target);
  LayerMap map;
  std::vector<std::optional<SlotId>> slot_of(target.size());  // [layer] the slot that it writes
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    if (std::ranges::find(target, static_cast<int>(layer)) == target.end()) continue;
    slot_of[layer] = SlotId{map.slots++};
    map.owner.push_back(LayerId{static_cast<int>(layer)});
  }
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    const auto read = static_cast<std::size_t>(target[layer]);
    map.routes.push_back({.reads = *slot_of[read], .writes = slot_of[layer], .lagged = read > layer});
  }
  return map;
}

LayerMap LayerMap::identity(int layers) {
  std::vector<int> target(static_cast<std::size_t>(layers));
  std::iota(target.begin(), target.end(), 0);
  return from_targets(target);
}

std::vector<LayerType> parse_layer_types(std::string_view text) {
  std::vector<LayerType> types;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('_', begin), text.size());
    types.push_back(parse_item(text.substr(begin, end - begin), types.size()));
    begin = end + 1;
  }
  return types;
}

std::vector<int> targets_from_layer_types(std::string_view text, const KvShape& shape) {
  const std::vector<LayerType> types = parse_layer_types(text);
  require(static_cast<int>(types.size()) == shape.layers, "the map has {} items, the model has {} layers", types.size(),
          shape.layers);
  const bool marked = std::ranges::any_of(types, &LayerType::sliding);
  std::vector<int> target;
  for (int layer = 0; layer < shape.layers; ++layer) {
    const LayerType& type = types[static_cast<std::size_t>(layer)];
    const bool window = shape.window(LayerId{layer}) > 0;
    require(!type.sliding || window, "layer {} is marked \"s\", but the model's layer {} has no sliding window", layer,
            layer);
    require(!marked || type.sliding || !window,
            "layer {} has a sliding window in the model, but no \"s\" in the map; mark all such layers or none", layer);
    target.push_back(type.target);
  }
  return target;
}

void require_runnable(std::span<const int> target, const KvShape& shape) {
  require_in_range(target);
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    const int reader = static_cast<int>(layer);
    const int read = target[layer];
    require(read <= reader,
            "layer {} reads layer {} above it, which takes several passes over the layers; this version has one pass, "
            "so layers read themselves or lower ones",
            reader, read);
    const Pos window = shape.window(LayerId{reader});
    const Pos target_window = shape.window(LayerId{read});
    require(window == target_window,
            "layer {} with {} reads layer {} with {}; layers that share rows must have the same window", reader,
            window > 0 ? fmt::format("a window of {}", window) : "no window", read,
            target_window > 0 ? fmt::format("a window of {}", target_window) : "no window");
  }
}

}  // namespace lamina
