// SPDX-License-Identifier: Apache-2.0
// What each axis has saved of the dense cache's bytes.
#pragma once
#include <cstdint>

#include "kv/sequence.h"

namespace lamina {

// dense = held + layers + tokens + bits - overhead, exactly. One axis after the other, in this order: each of what the
// one before has left. Negative where an axis costs bytes.
struct AxisBytes {
  std::int64_t dense = 0, held = 0;
  std::int64_t layers = 0;  // what the dense cache holds of layers without rows here; of a merged pair, of one of them
  std::int64_t tokens = 0;  // what it holds of the rows that are gone, of the layers that are left
  std::int64_t bits = 0;    // of the rows that are left, f16 less the codes
  // What scales, gains, positions, sums of attention and slack take more than beside as many rows of the dense cache.
  std::int64_t overhead = 0;
};

// Of a sequence after a prompt.
AxisBytes bytes_by_axis(const KvSequence& kv);

}  // namespace lamina
