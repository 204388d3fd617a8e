// SPDX-License-Identifier: Apache-2.0
// What attention measures for a token policy: for each stored row, the sum of the softmax weights that queries gave it,
// or what the queries are like. Only what a policy asks for is measured (design 3.4, 4).
#pragma once
#include <limits>
#include <span>

#include "kv/query_moments.h"
#include "kv/types.h"

namespace lamina {

struct Observe {
  static constexpr Pos kNever = std::numeric_limits<Pos>::max();
  Pos first_query = kNever;    // queries from this position on are observed
  Pos far = 0;                 // > 0: also the part of queries at least so many positions behind the row
  bool by_query_head = false;  // a sum for each query head, else one for all that read a KV head
  float slope = 0;             // a prompt's query at position p counts 1 + slope (p - first_query)
  bool most = false;           // the largest weight that any query gave, not the sum; of prompts only
  Pos future = 0;              // > 0: no sums, but the moments of queries, and rope over so many positions to come

  bool any() const { return first_query != kNever; }
  int kinds() const { return far > 0 ? 2 : 1; }
  // Sums of one KV head that `group` query heads read: [query head, or 1][all, far].
  int columns(int group) const { return any() && future == 0 ? (by_query_head ? group : 1) * kinds() : 0; }
};

// Where attention adds the weights of one layer's queries of one step. A head's rows are those of its segments, one
// segment after the other, each padded to whole tiles: row coordinate r of a segment is r - 16 first_tile().
struct Observation {
  Observe what{};
  std::span<float* const> mass;  // [kv_heads] of [tokens, if apart, else 1][columns][rows]; empty: nothing is observed
  bool apart = false;            // the sums of each token by themselves: some of the tokens may be taken back
  std::span<QueryMoments> queries{};  // [query head] if `what.future`
};

}  // namespace lamina
