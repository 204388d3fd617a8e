// SPDX-License-Identifier: Apache-2.0
// The plan of passes over the layers of a prompt. Layers that read a layer above them need rows that do not exist yet:
// LCKV (arXiv:2405.10637) runs such layers several times, each time with the rows that the time before has left.
#pragma once
#include <span>
#include <vector>

namespace lamina {

// Layers [first, last). An iterated pass runs forward_passes + backward_passes times from the same input; the output
// and the rows of the last time are the ones that count.
struct Pass {
  int first = 0, last = 0;
  bool iterated = false;
  bool operator==(const Pass&) const = default;
};

// Whether a layer reads one above it: a prompt is then right only token by token, or nearly right in iterated passes.
// target[layer] = the layer whose K and V it reads, in range here and below.
bool cyclic(std::span<const int> target);

// All layers, in order. An iterated pass is the smallest range of layers from an upward reader on that contains what
// its layers read above themselves; the layers between two such ranges are one pass. Not cyclic: one pass.
std::vector<Pass> plan_passes(std::span<const int> target);

}  // namespace lamina
