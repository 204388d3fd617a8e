// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/random.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

// SplitMix64: a number for each (seed, slot, head, position), so that neither threads nor steps matter.
double hashed(std::uint64_t seed, std::uint64_t slot, std::uint64_t head, std::uint64_t pos) {
  std::uint64_t x = seed;
  for (const std::uint64_t part : {slot, head, pos}) {
    x = (x ^ part) + 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    x ^= x >> 31U;
  }
  return static_cast<double>(x >> 11U);
}

}  // namespace

RandomPolicy::RandomPolicy(const Term& term) {
  term.expect_keys({"keep", "seed", "every"});
  keep_ = Budget(term, "keep", "512", 1);
  seed_ = term.integer("seed", 0, std::numeric_limits<int>::max(), 0);
  every_ = Every(term);
  std::vector<std::string> arguments;
  if (keep_.text() != "512") arguments.push_back("keep=" + keep_.text());
  if (seed_ != 0) arguments.push_back(fmt::format("seed={}", seed_));
  every_.print_to(arguments);
  text_ = print_term(term.name, arguments);
}

void RandomPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto budget = static_cast<std::size_t>(std::max(1, keep_.rows(step.prompt())));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const auto score = [&](std::uint32_t row) {
      return hashed(static_cast<std::uint64_t>(seed_), static_cast<std::uint64_t>(step.slot), set,
                    static_cast<std::uint64_t>(rows.pos[row]));
    };
    keep[set] = selects(step) ? keep_highest(rows, budget, 1, score) : every_row(rows);
  }
}

Pos RandomPolicy::most_rows(Pos length, Pos prompt_length) const {
  return every_.most_rows(std::max(1, keep_.rows(prompt_length)), length, prompt_length);
}

}  // namespace lamina
