// SPDX-License-Identifier: Apache-2.0
// every=N, of policies that choose at the prompt's end: in decode they choose again whenever N more tokens have come,
// within the budget that the prompt gave them, so that a head (of adakv the heads of a layer together) never holds more
// than the budget and N rows, whatever prompts follow. Chosen is at fixed lengths, the prompt's and N, 2N, … tokens:
// which queries will score is known before they come.
#pragma once
#include <string>
#include <vector>

#include "kv/tokens/token_policy.h"

namespace lamina {

struct Term;

class Every {
 public:
  Every() = default;
  // The term's argument every=N; without it nothing is chosen in decode.
  explicit Every(const Term& term);

  explicit operator bool() const { return tokens_ > 0; }
  // Whether rows may go at this commit. A step of several tokens may pass the length: then it does at the step's end.
  bool is_due(const Step& step) const;
  // The queries of decode from which at most the last `window` before the next choice are.
  Pos first_query(const Ahead& ahead, Pos window) const;
  // The most rows that commits leave of a text up to that length, where the prompt's end left `kept`.
  Pos most_rows(Pos kept, Pos length, Pos prompt_length) const;
  void print_to(std::vector<std::string>& arguments) const;

 private:
  Pos tokens_ = 0;
};

}  // namespace lamina
