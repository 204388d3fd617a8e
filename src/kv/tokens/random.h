// SPDX-License-Identifier: Apache-2.0
// random(keep=0.25,seed=0): rows of the prompt at random, each KV head others, and its last row. What a method that
// chooses must beat. Other arguments: see highest_rows.h.
#pragma once
#include "kv/tokens/highest_rows.h"

namespace lamina {

class RandomPolicy final : public HighestRowsPolicy {
 public:
  explicit RandomPolicy(const Term& term);

 private:
  std::vector<double> scores(int slot, std::size_t head, const HeadRows& rows) const override;

  int seed_ = 0;
};

}  // namespace lamina
