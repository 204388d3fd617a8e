// SPDX-License-Identifier: Apache-2.0
// KVzip (arXiv:2505.23416): the rows that a model needs to repeat its context. After the prompt a probe asks for it,
// piece by piece, with the answer at hand; a row's score is the most that any query of the probe gives it.
//   kvzip(…)
//   keep=512      rows kept of the prompt, or a fraction of it; never fewer than the sinks
//   share=layer|head   the budget of a layer goes to the best rows of all its KV heads, or to each head the same
//   piece=2048    tokens of the prompt that one probe repeats
//   sinks=4       leading rows that are always kept
// Not for layers with a sliding window, nor with `grid`.
// It looks for no question, so what it keeps serves every request; the prompt takes about three times its time. Chosen
// once, at the prompt's end; what is decoded is kept.
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class KvzipPolicy final : public TokenPolicy {
 public:
  explicit KvzipPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  Readers readers() const override { return Readers::kMax; }
  bool by_head() const override { return true; }
  bool by_prompt() const override { return true; }
  bool selects(const Step& step) const override { return step.phase == Phase::kPromptEnd; }
  Pos probes() const override { return piece_; }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  double score(const HeadRows& rows, std::uint32_t row) const;

  std::string text_;
  KeepWithSinks keep_;
  int piece_ = 0;
  bool by_layer_ = true;
};

}  // namespace lamina
