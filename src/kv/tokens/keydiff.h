// SPDX-License-Identifier: Apache-2.0
// keydiff(keep=0.5): the rows whose keys are least like the others' (KeyDiff, arXiv:2504.15364): the lowest cosine to
// the mean direction of the head's keys. It looks at no query, so what it keeps serves every request. Arguments: see
// highest_rows.h. The paper compresses block by block as the prompt comes: that is `+ grid(N)`.
#pragma once
#include "kv/tokens/highest_rows.h"

namespace lamina {

class KeyDiffPolicy final : public HighestRowsPolicy {
 public:
  explicit KeyDiffPolicy(const Term& term) : HighestRowsPolicy(term, {"keep", "every"}) {}

  bool reads_rows(Phase phase) const override { return chooses(phase); }

 private:
  std::vector<double> scores(int slot, std::size_t head, const HeadRows& rows) const override;
};

}  // namespace lamina
