// SPDX-License-Identifier: Apache-2.0
// How many rows a token policy keeps: a number of rows ("512"), or a fraction of the prompt ("0.25", "25%").
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kv/types.h"

namespace lamina {

struct Term;

class Budget {
 public:
  Budget() = default;
  // The term's argument `key`, or `fallback` where it is absent. Error unless it is a whole number from `min` on, or a
  // fraction up to 1.0 or 100% with at most six decimals (0 only if `min` is 0).
  Budget(const Term& term, std::string_view key, std::string_view fallback, int min);

  bool is_fraction() const { return millionths_ >= 0; }
  // Of a fraction floor(fraction * prompt), exactly: a double's 0.29 * 100 is below 29.
  Pos rows(Pos prompt) const;
  Pos rows_up(Pos prompt) const;  // ceil(fraction * prompt)
  std::string text() const;       // canonical
  bool operator==(const Budget&) const = default;

 private:
  Pos rows_ = 0;
  std::int64_t millionths_ = -1;  // of a fraction
};

// keep= of a policy that always keeps the first `sinks` rows of the text, which it counts.
struct KeepWithSinks {
  KeepWithSinks() = default;
  // The term's arguments keep=512 and sinks=4. Error where keep is a number below the sinks.
  explicit KeepWithSinks(const Term& term);

  Pos rows(Pos prompt) const;  // never fewer than the sinks, nor none

  Budget keep;
  Pos sinks = 0;
};

}  // namespace lamina
