// SPDX-License-Identifier: Apache-2.0
// Expected attention (arXiv:2510.00636): the rows that queries to come may be expected to attend to, by the mean and
// the covariance of the prompt's queries. Each KV head keeps rows of its own.
//   expected(…)
//   keep=512      rows kept of the prompt, or a fraction of it; never fewer than the sinks
//   future=512    positions after the prompt that rope is averaged over
//   sinks=4       leading rows that are always kept; their queries are left out of the statistics
//   covariance=on|off   whether a row's score has the queries' spread beside their mean
//   values=on|off       whether it is multiplied by the norm of the row's value
//   epsilon=0.0         what is added before that
// Scores are a softmax over rows for each query head, averaged over the heads that read a KV head. It looks for no
// question, so what it keeps serves every request. Chosen once, at the prompt's end; what is decoded is kept.
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class ExpectedPolicy final : public TokenPolicy {
 public:
  explicit ExpectedPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  bool by_head() const override { return true; }
  bool by_prompt() const override { return true; }
  bool reads_rows(Phase phase) const override { return phase != Phase::kDecode; }
  bool selects(const Step& step) const override { return step.phase != Phase::kDecode; }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  std::vector<double> scores(const HeadRows& rows) const;

  std::string text_;
  KeepWithSinks keep_;
  int future_ = 0;
  bool covariance_ = true, values_ = true;
  double epsilon_ = 0;
};

}  // namespace lamina
