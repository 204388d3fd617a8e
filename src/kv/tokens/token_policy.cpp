// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/token_policy.h"

#include <numeric>

namespace lamina {

template <class Fn>
double HeadRows::combine(std::size_t row, Fn fn) const {
  if (mass.empty()) return 0;
  double result = 0;
  for (int reader = 0; reader < readers; ++reader) {
    const double sum = fn((row * static_cast<std::size_t>(readers) + static_cast<std::size_t>(reader)) *
                          static_cast<std::size_t>(columns));
    result = combined == Readers::kMax ? std::max(result, sum) : result + sum;
  }
  return result;
}

double HeadRows::sum_of(std::size_t row, int kind) const {
  return combine(row, [&](std::size_t first) {
    double sum = 0;
    for (int c = kind; c < columns; c += kinds) sum += mass[first + static_cast<std::size_t>(c)];
    return sum;
  });
}

double HeadRows::part(std::size_t row, int head, int kind) const {
  return combine(row, [&](std::size_t first) { return mass[first + static_cast<std::size_t>(head * kinds + kind)]; });
}

HeadRows HeadRows::from(Pos first) const {
  const auto gone = static_cast<std::size_t>(std::ranges::lower_bound(pos, first) - pos.begin());
  HeadRows rest = *this;
  rest.pos = pos.subspan(gone);
  for (auto* values : {&rest.mass, &rest.key_norms, &rest.keys, &rest.value_norms})
    if (!values->empty()) *values = values->subspan(gone * (values->size() / pos.size()));
  return rest;
}

Keep every_row(const HeadRows& rows) {
  Keep all(rows.pos.size());
  std::iota(all.begin(), all.end(), 0U);
  return all;
}

void fade(const HeadRows& rows, const Fade& fade, Keep& keep) {
  assert(fade.newest == 0 && keep.size() == rows.pos.size());
  if (keep.empty()) return;
  const std::size_t newest = keep.size() - 1, spared = fade.budget > 0 && !fade.held.holds(rows, newest) ? 1 : 0;
  const auto is_judged = [&](std::uint32_t row) { return row + spared <= newest && !fade.held.holds(rows, row); };
  const auto judged = static_cast<std::size_t>(std::ranges::count_if(keep, is_judged)), others = judged + spared;
  const std::size_t dropped = std::min(judged, others - std::min(others, fade.budget));
  drop_lowest(keep, keep.size(), dropped, [&](std::uint32_t row) {
    return is_judged(row) ? rows.total(row) : std::numeric_limits<double>::infinity();
  });
}

}  // namespace lamina
