// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/keydiff.h"

#include <cmath>
#include <numeric>

namespace lamina {

// How little of the row's direction is the mean of all directions; 0 for keys of zeros.
std::vector<double> KeyDiffPolicy::scores(int /*slot*/, std::size_t /*head*/, const HeadRows& rows) const {
  const std::size_t n = rows.pos.size(), dim = rows.keys.size() / n;
  std::vector<double> mean(dim), norms(n), score(n);
  const auto key = [&](std::size_t row) { return rows.keys.subspan(row * dim, dim); };
  for (std::size_t row = 0; row < n; ++row) {
    norms[row] = std::sqrt(std::inner_product(key(row).begin(), key(row).end(), key(row).begin(), 0.0));
    for (std::size_t c = 0; norms[row] > 0 && c < dim; ++c) mean[c] += double{key(row)[c]} / norms[row];
  }
  for (std::size_t row = 0; row < n; ++row)
    if (norms[row] > 0)
      score[row] = -std::inner_product(key(row).begin(), key(row).end(), mean.begin(), 0.0) / norms[row];
  return score;
}

}  // namespace lamina
