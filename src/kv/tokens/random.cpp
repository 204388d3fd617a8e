// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/random.h"

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

RandomPolicy::RandomPolicy(const Term& term) : HighestRowsPolicy(term, {"keep", "every", "seed"}) {
  seed_ = term.integer("seed", 0, std::numeric_limits<int>::max(), 0);
  if (seed_ != 0) arguments_.push_back(fmt::format("seed={}", seed_));
}

std::vector<double> RandomPolicy::scores(int slot, std::size_t head, const HeadRows& rows) const {
  std::vector<double> score(rows.pos.size());
  std::ranges::transform(rows.pos, score.begin(), [&](Pos pos) {
    return hashed(static_cast<std::uint64_t>(seed_), static_cast<std::uint64_t>(slot), head,
                  static_cast<std::uint64_t>(pos));
  });
  score.back() = std::numeric_limits<double>::infinity();
  return score;
}

}  // namespace lamina
