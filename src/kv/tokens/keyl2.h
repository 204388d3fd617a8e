// SPDX-License-Identifier: Apache-2.0
// keyl2(keep=0.5): the rows whose keys have the lowest norm (arXiv:2406.11430): those are the keys that get attention.
// It looks at no query, so what it keeps serves every request. Arguments: see highest_rows.h.
#pragma once
#include "kv/tokens/highest_rows.h"

namespace lamina {

class KeyL2Policy final : public HighestRowsPolicy {
 public:
  explicit KeyL2Policy(const Term& term) : HighestRowsPolicy(term, {"keep", "every"}) {}

  bool reads_keys(Phase phase) const override { return chooses(phase); }

 private:
  std::vector<double> scores(int slot, std::size_t head, const HeadRows& rows) const override;
};

}  // namespace lamina
