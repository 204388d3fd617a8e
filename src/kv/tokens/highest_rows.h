// SPDX-License-Identifier: Apache-2.0
// What keyl2, keydiff and random share: each KV head keeps those of the prompt's rows that score highest.
//   keep=512      rows kept of the prompt, or a fraction of it
//   every=N       chosen again in decode, see every.h; else what is decoded is kept
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "kv/tokens/budget.h"
#include "kv/tokens/every.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class HighestRowsPolicy : public TokenPolicy {
 public:
  std::string text() const final;
  bool by_head() const final { return true; }
  bool by_prompt() const final { return !every_; }
  bool selects(const Step& step) const final { return every_.is_due(step); }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const final;
  Pos most_rows(Pos length, Pos prompt_length) const final;

 protected:
  // `keys`: all that the term may have.
  HighestRowsPolicy(const Term& term, std::initializer_list<std::string_view> keys);

  // Whether a commit of this phase may choose.
  bool chooses(Phase phase) const { return phase != Phase::kDecode || every_; }
  // [row] of one head's rows. What a policy asked for is missing in a plan: then any scores do.
  virtual std::vector<double> scores(int slot, std::size_t head, const HeadRows& rows) const = 0;

  std::vector<std::string> arguments_;  // of the canonical term

 private:
  int budget(Pos prompt) const { return std::max(1, keep_.rows(prompt)); }

  std::string name_;
  Budget keep_;
  Every every_;
};

}  // namespace lamina
