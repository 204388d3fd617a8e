// SPDX-License-Identifier: Apache-2.0
#include "engine/step_bytes.h"

namespace lamina {

std::size_t bytes_read(KvSequence& kv) {
  std::size_t bytes = 0;
  for (int layer = 0; layer < kv.shape().layers; ++layer) {
    const auto heads = kv.segments(LayerId{layer});
    for (const auto& segments : heads)
      for (const Segment& s : segments) bytes += s.rows() > 0 ? s.bytes(s.range()) : 0;
    if (heads.empty()) continue;
    for (const Segment& s : heads.front()) bytes += s.rows() * sizeof(Pos);
  }
  return bytes;
}

std::size_t bytes_read(const Weights& weights, const LayerMap& map) {
  std::size_t bytes = weights.bytes();
  for (std::size_t layer = 0; layer < weights.layers.size(); ++layer)
    if (!map.routes[layer].writes) bytes -= weights.layers[layer].k.bytes() + weights.layers[layer].v.bytes();
  return bytes;
}

}  // namespace lamina
