// SPDX-License-Identifier: Apache-2.0
// random(keep=0.25,seed=0): rows of the prompt at random, each KV head others, and its last row. What a method that
// chooses must beat.
//   keep=512      rows kept of the prompt, or a fraction of it
//   every=N       chosen again in decode, see every.h; else what is decoded is kept
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/every.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class RandomPolicy final : public TokenPolicy {
 public:
  explicit RandomPolicy(const Term& term);

  std::string text() const override { return text_; }
  bool by_head() const override { return true; }
  bool by_prompt() const override { return !every_; }
  bool selects(const Step& step) const override { return every_.is_due(step); }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  std::string text_;
  Budget keep_;
  Every every_;
  int seed_ = 0;
};

}  // namespace lamina
