// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/lckv.h"

#include <algorithm>

#include "base/error.h"
#include "kv/layers/layer_map.h"

namespace lamina {
namespace {

LayerTypes plain(int layers) {
  return {.target = identity_targets(layers), .sliding = std::vector<bool>(static_cast<std::size_t>(layers))};
}

// Layers [first, last) read one of themselves.
void share(LayerTypes& types, int first, int last, GroupOwner owner) {
  const int top = last - 1;
  const int target = owner == GroupOwner::kBottom ? first : owner == GroupOwner::kTop ? top : (first + top) / 2;
  std::fill(types.target.begin() + first, types.target.begin() + last, target);
}

void require_kv_layers(const char* family, int layers, int kv_layers) {
  require(kv_layers >= 1 && kv_layers <= layers, "{}: {} KV layers for a model of {} layers, expected 1 to {}", family,
          kv_layers, layers, layers);
}

}  // namespace

LayerTypes lckv(int layers, int w) {
  const int most = (layers - 1) / 2 * 2 + 1;
  require(w >= 0 && w <= most,
          "lckv: w is {} for a model of {} layers, expected 0 to {} so that a layer is left between the warm-up layers",
          w, layers, most);
  LayerTypes types = plain(layers);
  share(types, w / 2, layers - w / 2, GroupOwner::kTop);
  return types;
}

LayerTypes cla(int layers, int n) {
  require(n >= 1 && n <= layers, "cla: groups of {} layers in a model of {} layers, expected 1 to {}", n, layers,
          layers);
  LayerTypes types = plain(layers);
  for (int first = 0; first < layers; first += n) share(types, first, std::min(first + n, layers), GroupOwner::kBottom);
  return types;
}

LayerTypes yoco(int layers, int window) {
  require(layers >= 2, "yoco: a model of {} layers has no two halves, expected at least 2 layers", layers);
  require(window >= 1, "yoco: the window is {}, expected at least 1 token", window);
  // The cross-decoder's K and V are projections of the self-decoder's output, which is the input of layer L/2: so layer
  // L/2, the first without a window, computes them, not the last self-decoder layer, whose input is one layer older.
  LayerTypes types = pizza(layers, layers / 2 + 1, GroupOwner::kBottom);
  std::fill_n(types.sliding.begin(), layers / 2, true);
  types.window = window;
  return types;
}

LayerTypes pizza(int layers, int kv_layers, GroupOwner owner) {
  require_kv_layers("pizza", layers, kv_layers);
  LayerTypes types = plain(layers);
  share(types, kv_layers - 1, layers, owner);
  return types;
}

LayerTypes sandwich(int layers, int kv_layers, GroupOwner owner) {
  require_kv_layers("sandwich", layers, kv_layers);
  LayerTypes types = plain(layers);
  share(types, kv_layers / 2, layers - (kv_layers - 1) / 2, owner);
  return types;
}

LayerTypes lasagna(int layers, int kv_layers, GroupOwner owner) {
  require_kv_layers("lasagna", layers, kv_layers);
  LayerTypes types = plain(layers);
  int first = 0;
  for (int group = 0; group < kv_layers; ++group) {
    const int last = first + layers / kv_layers + (group < layers % kv_layers ? 1 : 0);
    share(types, first, last, owner);
    first = last;
  }
  return types;
}

}  // namespace lamina
