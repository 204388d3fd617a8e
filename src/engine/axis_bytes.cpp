// SPDX-License-Identifier: Apache-2.0
#include "engine/axis_bytes.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

namespace lamina {
namespace {

// The layers that write rows of a slot, in the dense cache.
class DenseLayers {
 public:
  DenseLayers(const KvShape& shape, Pos length) : shape_(shape), length_(length) {}

  const KvBytes& operator[](LayerId layer) {
    const Pos window = shape_.window(layer);
    const auto found = by_window_.find(window);
    if (found != by_window_.end()) return found->second;
    KvShape one = shape_;
    one.layers = 1;
    one.windows = {window};
    one.targets.clear();
    return by_window_.emplace(window, dense_bytes(one, length_)).first->second;
  }

  double total(const LayerMap& map) {
    double sum = 0;
    for (const auto& writers : map.writers)
      for (const LayerId layer : writers) sum += static_cast<double>((*this)[layer].total());
    return sum;
  }

  // The rows of one head.
  double rows(LayerId layer) const {
    const Pos window = shape_.window(layer);
    return window > 0 ? std::min(length_, window - 1) : length_;
  }

 private:
  const KvShape& shape_;
  Pos length_;
  std::map<Pos, KvBytes> by_window_;
};

// Of a slot.
struct Rows {
  double live = 0;    // the mean over its sets
  double merged = 0;  // the share that a pair's two layers have in common: 1 of all keys and values
};

Rows rows_of(const KvSequence& kv, SlotId slot) {
  const std::vector<std::size_t> sets = kv.live_rows(slot);
  const auto all = static_cast<double>(std::accumulate(sets.begin(), sets.end(), std::size_t{0}));
  return {.live = all / static_cast<double>(sets.size()),
          .merged = all > 0 ? static_cast<double>(kv.merged(slot).merged) / (2 * all) : 0};
}

}  // namespace

AxisBytes bytes_by_axis(const KvSequence& kv) {
  const LayerMap& map = kv.spec().layers;
  DenseLayers dense(kv.shape(), kv.length());
  double layers = dense.total(LayerMap::from_targets(own_targets(kv.shape()), kv.shape())), tokens = 0, bits = 0;
  for (int i = 0; i < map.slots(); ++i) {
    const SlotId slot{i};
    double all = 0, rows = 0;  // bytes, as the dense cache has them
    for (const LayerId layer : map.writers[static_cast<std::size_t>(i)]) {
      all += static_cast<double>(dense[layer].total());
      rows += static_cast<double>(dense[layer].rows);
    }
    const LayerId last = map.writers[static_cast<std::size_t>(i)].back();
    const Rows held = rows_of(kv, slot);
    all -= held.merged * static_cast<double>(dense[last].total());
    rows -= held.merged * static_cast<double>(dense[last].rows);
    const double kept = held.live / dense.rows(last);
    layers -= all;
    tokens += (1 - kept) * all;
    bits += kept * rows;
  }
  const KvBytes held = kv.bytes();
  AxisBytes bytes{.dense = static_cast<std::int64_t>(dense_bytes(kv.shape(), kv.length()).total()),
                  .held = static_cast<std::int64_t>(held.total()),
                  .layers = std::llround(layers),
                  .tokens = std::llround(tokens),
                  .bits = std::llround(bits - static_cast<double>(held.rows))};
  bytes.overhead = bytes.held + bytes.layers + bytes.tokens + bytes.bits - bytes.dense;
  return bytes;
}

}  // namespace lamina
