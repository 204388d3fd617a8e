// SPDX-License-Identifier: Apache-2.0
// keyl2(keep=0.5): the rows whose keys have the lowest norm (arXiv:2406.11430): those are the keys that get attention.
// It looks at no query, so what it keeps serves every request. Each KV head keeps rows of its own.
//   keep=512      rows kept of the prompt, or a fraction of it
//   every=N       chosen again in decode, see every.h; else what is decoded is kept
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/every.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class KeyL2Policy final : public TokenPolicy {
 public:
  explicit KeyL2Policy(const Term& term);

  std::string text() const override { return text_; }
  bool by_head() const override { return true; }
  bool by_prompt() const override { return !every_; }
  bool reads_keys(Phase phase) const override { return phase != Phase::kDecode || every_; }
  bool selects(const Step& step) const override { return every_.is_due(step); }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  std::string text_;
  Budget keep_;
  Every every_;
};

}  // namespace lamina
