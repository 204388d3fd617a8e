// SPDX-License-Identifier: Apache-2.0
// AXIS 1, layers: who stores and who reads. An immutable value.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kv/types.h"

namespace lamina {

// How one layer reaches rows. Whether a layer writes does not depend on what it reads ("1_2s_0" is legal).
struct Route {
  SlotId reads{};
  std::optional<SlotId> writes{};  // absent: the layer computes no K and no V
  int view = 0;                    // which gain plane of the slot the layer reads
  bool lagged = false;             // rows written in this very step are not visible (an upward reader, LCKV)
  bool operator==(const Route&) const = default;
};

struct LayerMap {
  std::vector<Route> routes;  // [layer]
  int slots = 0;
  std::vector<LayerId> owner;  // [slot] the layer that writes it

  const Route& operator[](LayerId layer) const { return routes.at(static_cast<std::size_t>(index(layer))); }
  bool identity() const;  // every layer writes and reads its own slot
  bool lagged() const;
  bool operator==(const LayerMap&) const = default;

  // target[layer] = the layer whose K and V it reads; layers that somebody reads write, whatever they read themselves.
  // Slots are numbered in the order of their owners. Error for a target out of range.
  static LayerMap from_targets(std::span<const int> target);
  static LayerMap identity(int layers);
};

// The items of a layer_types string, "0_0_2_2s": the layer read, and "s" for sliding-window attention. Grammar only.
struct LayerType {
  int target = 0;
  bool sliding = false;
};
std::vector<LayerType> parse_layer_types(std::string_view text);

// Targets from a layer_types string; Error unless it has an item for every layer and its "s" marks, if it has any, are
// the model's own window layers.
std::vector<int> targets_from_layer_types(std::string_view text, const KvShape& shape);

// Error, in one sentence, for targets that this version cannot run on the model: out of range, upward, or a reader
// whose window differs from its target's.
void require_runnable(std::span<const int> target, const KvShape& shape);

}  // namespace lamina
