// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/highest_rows.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {

HighestRowsPolicy::HighestRowsPolicy(const Term& term, std::initializer_list<std::string_view> keys)
    : name_(term.name) {
  term.expect_keys(keys);
  keep_ = Budget(term, "keep", "512", 1);
  every_ = Every(term);
  if (keep_.text() != "512") arguments_.push_back(fmt::format("keep={}", keep_.text()));
  every_.print_to(arguments_);
}

std::string HighestRowsPolicy::text() const { return print_term(name_, arguments_); }

void HighestRowsPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto most = static_cast<std::size_t>(budget(step.prompt()));
  for (std::size_t head = 0; head < sets.size(); ++head) {
    const HeadRows& rows = sets[head];
    const bool drops = selects(step) && rows.pos.size() > most;
    const std::vector<double> score = drops ? scores(step.slot, head, rows) : std::vector<double>();
    keep[head] = drops ? keep_highest(rows, most, 0, [&](std::uint32_t row) { return score[row]; }) : every_row(rows);
  }
}

Pos HighestRowsPolicy::most_rows(Pos length, Pos prompt_length) const {
  return every_.most_rows(budget(prompt_length), length, prompt_length);
}

}  // namespace lamina
