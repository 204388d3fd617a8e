// SPDX-License-Identifier: Apache-2.0
// H2O (arXiv:2306.14048): heavy hitters, the rows that were given most attention so far, and the newest rows. Each KV
// head keeps its own; a row's score is the sum over the query heads that read it.
//   h2o(…)
//   heavy=0.1     heavy hitters: a number of rows, or a fraction of the prompt, rounded down
//   recent=0.1    newest rows that are always kept, likewise; never below 1
//   oneshot       chosen once, after the prompt; then every row is kept
//   every=N       with oneshot: chosen again in decode, see every.h
//   average       scores are divided by how many queries could see the row: old rows have met more of them
//   readers=owner|sum|max   where layers share rows (KVSharer), whose queries score: those of the layer that wrote
//                           them, of all that read them, or of the one that gave the row most
// Budgets are fixed by the prompt's length; attention goes on being counted in decode. Between equal scores the lower
// position stays. Bounded memory inside the prompt is grid(N): rows go at its commits, the budgets of the text so far.
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/every.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class H2oPolicy final : public TokenPolicy {
 public:
  explicit H2oPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  Readers readers() const override { return readers_; }
  bool by_head() const override { return true; }
  bool by_prompt() const override { return oneshot_ && !every_; }
  bool request_bound() const override { return true; }
  bool selects(const Step& step) const override { return !oneshot_ || every_.is_due(step); }
  std::optional<Fade> fades(const Step& step, std::uint8_t tag) const override;
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  Pos recent(Pos prompt) const;

  std::string text_;
  Budget heavy_, recent_;
  Every every_;
  Readers readers_ = Readers::kOwner;
  bool oneshot_ = false, average_ = false;
};

}  // namespace lamina
