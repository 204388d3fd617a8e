// SPDX-License-Identifier: Apache-2.0
// AXIS 1, layers: who stores and who reads. An immutable value.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/layers/passes.h"
#include "kv/types.h"

namespace lamina {

// How one layer reaches rows. Whether a layer writes does not depend on what it reads ("1_2s_0" is legal).
struct Route {
  SlotId reads{};
  std::optional<SlotId> writes{};  // absent: the layer computes no K and no V
  int view = 0;                    // of its slot: which tail it appends to, which gains it reads
  bool lagged = false;             // a token's own row is not visible (an upward reader, LCKV)
  Pos window = 0;                  // of the reader, in tokens, its own included; 0: none
  bool operator==(const Route&) const = default;
};

struct LayerMap {
  std::vector<Route> routes;                  // [layer]
  std::vector<std::vector<LayerId>> writers;  // [slot][view]: one layer, or the two of a pair that merges its rows
  std::vector<Pass> passes;                   // how a prompt runs through the layers
  int iterations = 1;                         // of a pass that is iterated

  const Route& operator[](LayerId layer) const { return routes.at(static_cast<std::size_t>(index(layer))); }
  int slots() const { return static_cast<int>(writers.size()); }
  int views(SlotId slot) const { return static_cast<int>(writers.at(static_cast<std::size_t>(index(slot))).size()); }
  // The window outside of which nobody reads the slot; 0: none.
  Pos window(SlotId slot) const;
  bool cyclic() const;  // a layer reads a higher one: a prompt takes several passes, or one token at a time
  bool operator==(const LayerMap&) const = default;

  // target[layer] = the layer whose K and V it reads; layers that somebody reads write, whatever they read themselves.
  // Slots are numbered in the order of their writers. The shape says windows, passes and whether a token sees itself.
  // Error for a target out of range.
  static LayerMap from_targets(std::span<const int> target, const KvShape& shape);
  // Each layer its own rows, but for pairs (lower layer, higher layer), which share a slot of two views.
  static LayerMap from_pairs(std::span<const std::pair<int, int>> pairs, const KvShape& shape);
};

// Each layer reads its own rows: 0, 1, 2, …
std::vector<int> identity_targets(int layers);
// What each layer reads where nothing else is said: its own rows, or what the model was trained to read.
std::vector<int> own_targets(const KvShape& shape);

// The items of a layer_types string, "0_0_2_2s": the layer read, and "s" for sliding-window attention. Grammar only.
struct LayerType {
  int target = 0;
  bool sliding = false;
};
std::vector<LayerType> parse_layer_types(std::string_view text);
// From [layer] the layer read, and [layer] whether it slides; none: no layer does.
std::string print_layer_types(std::span<const int> target, const std::vector<bool>& sliding = {});

// Error unless layers may share rows in this way on this model: targets in range, the layers read have K and V, and,
// unless `across_kinds`, layers that share have the same window in the model (their keys are rotated alike).
void require_shareable(std::span<const int> target, const KvShape& shape, bool across_kinds);

}  // namespace lamina
