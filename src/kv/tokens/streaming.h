// SPDX-License-Identifier: Apache-2.0
// StreamingLLM (arXiv:2309.17453) and the plain window: the first rows of the text ("sinks") and the newest rows.
//   streaming(…)  rows are re-numbered: the sinks are seen as if they stood directly before the newest rows
//   window(…)     rows keep their positions in the text
// Arguments, of which one of window and keep is required:
//   sinks=4       leading rows of the text that are always kept
//   window=N      a query meets sinks + N rows, itself included: after a commit sinks + N - 1 rows are held
//   keep=512      rows held after a commit, sinks included
//   keep=0.25     the same as a fraction of the prompt, rounded down (also 25%); never below sinks + 1
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

struct Term;

class StreamingPolicy final : public TokenPolicy {
 public:
  // From the terms "streaming(…)" and "window(…)".
  explicit StreamingPolicy(const Term& term);

  std::string text() const override { return text_; }
  bool oldest_first() const override { return true; }
  int pinned_rows() const override { return sinks_; }
  bool renumbers() const override { return renumbers_; }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  Pos newest(Pos prompt_length) const;  // rows held beside the sinks

  std::string text_;
  int sinks_ = 0;
  Pos newest_ = 0;  // for window=N
  Budget keep_;     // for keep=, sinks included
  bool has_window_ = false, renumbers_ = false;
};

}  // namespace lamina
