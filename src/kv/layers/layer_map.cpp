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

Pos LayerMap::window(SlotId slot) const {
  Pos widest = 0;
  for (const Route& route : routes) {
    if (route.reads != slot) continue;
    if (route.window == 0) return 0;
    widest = std::max(widest, route.window);
  }
  return widest;
}

bool LayerMap::cyclic() const { return std::ranges::any_of(passes, &Pass::iterated); }

LayerMap LayerMap::from_targets(std::span<const int> target, const KvShape& shape) {
  require_in_range(target);
  LayerMap map;
  std::vector<std::optional<SlotId>> slot_of(target.size());  // [layer] the slot that it writes
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    if (std::ranges::find(target, static_cast<int>(layer)) == target.end()) continue;
    slot_of[layer] = SlotId{map.slots()};
    map.writers.push_back({LayerId{static_cast<int>(layer)}});
  }
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    const auto read = static_cast<std::size_t>(target[layer]);
    map.routes.push_back({.reads = *slot_of[read],
                          .writes = slot_of[layer],
                          .lagged = read > layer || shape.no_diagonal,
                          .window = shape.window(LayerId{static_cast<int>(layer)})});
  }
  map.passes = plan_passes(target);
  if (map.cyclic()) map.iterations = shape.forward_passes + shape.backward_passes;
  return map;
}

LayerMap LayerMap::from_pairs(std::span<const std::pair<int, int>> pairs, const KvShape& shape) {
  LayerMap map = from_targets(own_targets(shape), shape);
  map.writers.clear();
  for (int layer = 0; layer < shape.layers; ++layer) {
    Route& route = map.routes[static_cast<std::size_t>(layer)];
    const auto lower = std::ranges::find(pairs, layer, [](const auto& pair) { return pair.second; });
    if (lower != pairs.end()) {
      const Route& first = map.routes[static_cast<std::size_t>(lower->first)];
      route.reads = first.reads;
      route.view = 1;
      map.writers[static_cast<std::size_t>(index(first.reads))].push_back(LayerId{layer});
    } else {
      route.reads = SlotId{map.slots()};
      map.writers.push_back({LayerId{layer}});
    }
    route.writes = route.reads;
  }
  return map;
}

std::vector<int> identity_targets(int layers) {
  std::vector<int> target(static_cast<std::size_t>(layers));
  std::iota(target.begin(), target.end(), 0);
  return target;
}

std::vector<int> own_targets(const KvShape& shape) {
  return shape.targets.empty() ? identity_targets(shape.layers) : shape.targets;
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

std::string print_layer_types(std::span<const int> target, const std::vector<bool>& sliding) {
  std::string text;
  for (std::size_t layer = 0; layer < target.size(); ++layer)
    fmt::format_to(std::back_inserter(text), "{}{}{}", layer == 0 ? "" : "_", target[layer],
                   !sliding.empty() && sliding[layer] ? "s" : "");
  return text;
}

void require_shareable(std::span<const int> target, const KvShape& shape, bool across_kinds) {
  require_in_range(target);
  const std::vector<int> own = own_targets(shape);
  for (std::size_t layer = 0; layer < target.size(); ++layer) {
    const int reader = static_cast<int>(layer), read = target[layer];
    require(std::ranges::find(own, read) != own.end(),
            "layer {} reads layer {}, which has no K and V weights in this model (it was trained to read layer {})",
            reader, read, own[static_cast<std::size_t>(read)]);
    const Pos window = shape.window(LayerId{reader}), target_window = shape.window(LayerId{read});
    require(across_kinds || window == target_window,
            "layer {} with {} reads layer {} with {}; layers of different kinds share rows only with kinds=any", reader,
            window > 0 ? fmt::format("a window of {}", window) : "no window", read,
            target_window > 0 ? fmt::format("a window of {}", target_window) : "no window");
  }
}

}  // namespace lamina
