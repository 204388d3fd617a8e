// SPDX-License-Identifier: Apache-2.0
// Layer maps that papers have given names. All but `yoco` leave windows to the model. A KV layer is one that keeps K
// and V; the others read one of them. Error, in one sentence, for arguments that no map of the model can have.
//
//   LCKV  Wu and Tu 2024, arXiv:2405.10637; the map from w as in the authors' test_latency.py
//   CLA   Brandon et al. 2024, arXiv:2405.12981
//   YOCO  Sun et al. 2024, arXiv:2405.05254
//   pizza, sandwich, lasagna: Wu et al. 2024, arXiv:2410.14442. That study keeps layer 0 a KV layer whatever the family
//   says; here it is one except in pizza and sandwich with one KV layer and in lasagna, where the group's owner is not
//   its bottom layer.
#pragma once
#include <vector>

namespace lamina {

struct LayerTypes {
  std::vector<int> target;    // [layer] the layer whose K and V it reads
  std::vector<bool> sliding;  // [layer] it attends within the window
  int window = 0;             // of the sliding layers, in tokens, the query's own included; 0: no layer slides
};

// Which layer of a group that shares owns the rows; of two middle layers it is the lower one.
enum class GroupOwner { kBottom, kMiddle, kTop };

// w warm-up layers keep their own rows, floor(w / 2) of them at either end; those between read their topmost. An odd w
// therefore gives the map of w - 1. An even w has w + 1 KV layers and is sandwich(layers, w + 1, kTop).
LayerTypes lckv(int layers, int w);

// Groups of n layers read their lowest; the last group has what is left. The same as lasagna, kBottom, when n divides
// the layers.
LayerTypes cla(int layers, int n);

// floor(layers / 2) layers with a sliding window and rows of their own, then all others on the rows of one layer.
LayerTypes yoco(int layers, int window = 16);

// The lowest kv_layers - 1 layers keep their own rows, all others share.
LayerTypes pizza(int layers, int kv_layers, GroupOwner owner);

// The lowest ceil((kv_layers - 1) / 2) and the topmost floor((kv_layers - 1) / 2) layers keep their own rows, those
// between share.
LayerTypes sandwich(int layers, int kv_layers, GroupOwner owner);

// kv_layers groups of consecutive layers; where the sizes cannot be equal, the lower groups have one layer more.
LayerTypes lasagna(int layers, int kv_layers, GroupOwner owner);

}  // namespace lamina
