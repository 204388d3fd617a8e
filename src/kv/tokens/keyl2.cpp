// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/keyl2.h"

namespace lamina {

std::vector<double> KeyL2Policy::scores(int /*slot*/, std::size_t /*head*/, const HeadRows& rows) const {
  std::vector<double> score(rows.pos.size());
  std::ranges::transform(rows.key_norms, score.begin(), [](float norm) { return -double{norm}; });
  return score;
}

}  // namespace lamina
