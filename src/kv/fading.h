// SPDX-License-Identifier: Apache-2.0
// Fading: which rows of a run go in decode where a token policy drops one after the other (Fade). Sums only grow: rows
// that were above a bound when all were looked at are above it still. So a step looks at the few below it, and at the
// rows that it sees for the first time, to the same choice as a look at all of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kv/run.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class Fading {
 public:
  // Positions of the rows that go, ascending. `rows`: the run's, the dead ones included. None if the newest rows that
  // are to be held are not all there: then the policy has to look itself.
  std::optional<std::vector<Pos>> step(const Run& run, const HeadRows& rows, const Fade& fade);
  // All rows are looked at in the next step: after anything else has changed them.
  void reset() { *this = {}; }
  std::size_t bytes() const { return low_.capacity() * sizeof(Low); }

 private:
  struct Low {
    Pos pos;
    std::uint32_t row;  // where it was last; rows move when ranks close
  };
  // Rows go in the order of this.
  struct Rank {
    double total;
    Pos pos;
    bool operator<=(const Rank& other) const { return total != other.total ? total < other.total : pos >= other.pos; }
  };
  void look(const Run& run, const HeadRows& rows, const Held& held, Pos end);
  void refill(const Run& run, const HeadRows& rows, const Held& held, const std::vector<Pos>& gone);
  std::optional<Pos> take_lowest(const HeadRows& rows);

  std::vector<Low> low_;  // those that may be up to bound_; all others that are judged are above it
  Rank bound_ = {-1, 0};
  std::size_t judged_ = 0;  // rows before judged_end_ that are not held
  Pos judged_end_ = 0;
};

}  // namespace lamina
