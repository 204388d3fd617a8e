// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/token_policy.h"

namespace lamina {

double HeadRows::sum_of(std::size_t row, int kind, int kinds) const {
  if (mass.empty()) return 0;
  double result = 0;
  for (int reader = 0; reader < readers; ++reader) {
    const std::size_t first = (row * static_cast<std::size_t>(readers) + static_cast<std::size_t>(reader)) *
                              static_cast<std::size_t>(columns);
    double sum = 0;
    for (int c = kind; c < columns; c += kinds) sum += mass[first + static_cast<std::size_t>(c)];
    result = combined == Readers::kMax ? std::max(result, sum) : result + sum;
  }
  return result;
}

}  // namespace lamina
