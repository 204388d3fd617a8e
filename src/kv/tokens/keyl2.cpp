// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/keyl2.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {

KeyL2Policy::KeyL2Policy(const Term& term) {
  term.expect_keys({"keep", "every"});
  keep_ = Budget(term, "keep", "512", 1);
  every_ = Every(term);
  std::vector<std::string> arguments;
  if (keep_.text() != "512") arguments.push_back("keep=" + keep_.text());
  every_.print_to(arguments);
  text_ = print_term(term.name, arguments);
}

void KeyL2Policy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto budget = static_cast<std::size_t>(std::max(1, keep_.rows(step.prompt())));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const auto score = [&](std::uint32_t row) { return rows.key_norms.empty() ? 0.0 : -double{rows.key_norms[row]}; };
    keep[set] = selects(step) ? keep_highest(rows, budget, 0, score) : every_row(rows);
  }
}

Pos KeyL2Policy::most_rows(Pos length, Pos prompt_length) const {
  return every_.most_rows(std::max(1, keep_.rows(prompt_length)), length, prompt_length);
}

}  // namespace lamina
