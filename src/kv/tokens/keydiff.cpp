// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/keydiff.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

// [row] how much of the row's direction is the mean of all directions; 0 for keys of zeros.
std::vector<double> likeness(const HeadRows& rows) {
  const std::size_t n = rows.pos.size(), dim = rows.keys.size() / std::max<std::size_t>(n, 1);
  std::vector<double> mean(dim), norms(n), likeness(n);
  const auto key = [&](std::size_t row) { return rows.keys.subspan(row * dim, dim); };
  for (std::size_t row = 0; row < n; ++row) {
    norms[row] = std::sqrt(std::inner_product(key(row).begin(), key(row).end(), key(row).begin(), 0.0));
    for (std::size_t c = 0; norms[row] > 0 && c < dim; ++c) mean[c] += double{key(row)[c]} / norms[row];
  }
  for (std::size_t row = 0; row < n; ++row)
    if (norms[row] > 0)
      likeness[row] = std::inner_product(key(row).begin(), key(row).end(), mean.begin(), 0.0) / norms[row];
  return likeness;
}

}  // namespace

KeyDiffPolicy::KeyDiffPolicy(const Term& term) {
  term.expect_keys({"keep", "every"});
  keep_ = Budget(term, "keep", "512", 1);
  every_ = Every(term);
  std::vector<std::string> arguments;
  if (keep_.text() != "512") arguments.push_back("keep=" + keep_.text());
  every_.print_to(arguments);
  text_ = print_term(term.name, arguments);
}

void KeyDiffPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto budget = static_cast<std::size_t>(std::max(1, keep_.rows(step.prompt())));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const bool drops = selects(step) && rows.pos.size() > budget;
    const std::vector<double> alike = drops ? likeness(rows) : std::vector<double>();
    keep[set] = drops ? keep_highest(rows, budget, 0, [&](std::uint32_t row) { return -alike[row]; }) : every_row(rows);
  }
}

Pos KeyDiffPolicy::most_rows(Pos length, Pos prompt_length) const {
  return every_.most_rows(std::max(1, keep_.rows(prompt_length)), length, prompt_length);
}

}  // namespace lamina
