// SPDX-License-Identifier: Apache-2.0
// What a sequence stores, held row by row against another sequence of the same tokens.
#pragma once
#include <cstddef>
#include <string>

#include "kv/sequence.h"

namespace lamina {

struct RowAudit {
  std::size_t rows = 0;       // of all heads and layers, keys and values counted apart
  std::size_t different = 0;  // rows that are not as expected; a list of another length counts once
  std::string first{};        // the first of them: "layer 3, KV head 1, position 37: the key is another one"
  double largest_error = 0;   // over what its format allows, of compare_with_dense
};

// Sequences of one spec in the same state: every row stands where it does in the other, in the same format, with the
// same bits.
RowAudit compare_states(KvSequence& found, KvSequence& expected);

// Of rows that layers store for themselves, against a dense sequence whose layers had the same inputs: no value is off
// by more than its format rounds, half a step of the codes, and 1/500 of the row's largest for the 16-bit floats behind
// both.
RowAudit compare_with_dense(KvSequence& found, KvSequence& dense);

}  // namespace lamina
