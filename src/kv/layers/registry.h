// SPDX-License-Identifier: Apache-2.0
// The layers axis of a spec: from a term to a layer map.
//
//   map(0_0_2_2)                 item i is the layer whose rows layer i reads; "2s" marks a sliding-window layer
//   kvsharer(map=FILE)           the map of a strategy file (kv/layers/kvsharer.h)
//   lckv(w=2) cla(2) yoco pizza(kv=4) sandwich(kv=11,target=top) lasagna(kv=4)
//                                maps that have names (kv/layers/lckv.h); they print as their map
// Arguments of all maps:
//   kinds=same|any               whether layers with and without a window may share rows (same)
//   window=N                     of the layers marked "s" where the model has none; yoco: 16
//   m=7,b=2                      maps that read upwards: a prompt runs m + b times through the layers that do
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kv/layers/layer_map.h"

namespace lamina {

struct Term;

// Whether a map may read upwards on a model that was not trained for it.
enum class UpwardMaps { kTrainedOnly, kAny };

struct LayerChoice {
  LayerMap map;
  std::string text;  // the canonical term; empty: what the model does anyway
  std::string key;   // the same with files replaced by the hash of their content
};

// Empty if the term's name is none of this axis. Error for arguments that do not parse or do not fit the model.
std::optional<LayerChoice> make_layers(const Term& term, const KvShape& shape, UpwardMaps upward);
// What holds without a term.
LayerChoice own_layers(const KvShape& shape);
std::vector<std::string_view> layer_term_names();

}  // namespace lamina
