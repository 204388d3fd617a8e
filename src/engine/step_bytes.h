// SPDX-License-Identifier: Apache-2.0
// What a step of decoding has to read from memory, whatever it computes.
#pragma once
#include <cstddef>

#include "kv/sequence.h"
#include "model/weights.h"

namespace lamina {

// Bytes that decoding one more token streams from the cache: every tile of every segment, once for each layer that
// reads it, and the positions.
std::size_t bytes_read(KvSequence& kv);
// All weights once, but for keys and values of layers that read another layer's.
std::size_t bytes_read(const Weights& weights, const LayerMap& map);

}  // namespace lamina
