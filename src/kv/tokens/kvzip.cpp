// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/kvzip.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "kv/spec_parser.h"
#include "kv/tokens/every.h"

namespace lamina {
namespace {

constexpr int kMaxTokens = 1'000'000;

// Drops the `dropped` rows of the lowest score of all sets; of equal scores the earlier set's and lower position stay.
template <class Score>
void drop_lowest_of_all(std::span<const HeadRows> sets, std::span<Keep> keep, std::size_t dropped, Score score) {
  Keep all;  // rows of all sets, one set after the other
  for (const HeadRows& rows : sets)
    for (std::size_t row = 0; row < rows.pos.size(); ++row) all.push_back(static_cast<std::uint32_t>(all.size()));
  std::vector<double> scores;
  for (const HeadRows& rows : sets)
    for (std::uint32_t row = 0; row < rows.pos.size(); ++row) scores.push_back(score(rows, row));
  drop_lowest(all, all.size(), dropped, [&](std::uint32_t row) { return scores[row]; });
  auto next = all.begin();
  std::uint32_t first = 0;
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const auto end = first + static_cast<std::uint32_t>(sets[set].pos.size());
    keep[set].clear();
    for (; next != all.end() && *next < end; ++next) keep[set].push_back(*next - first);
    first = end;
  }
}

}  // namespace

KvzipPolicy::KvzipPolicy(const Term& term) {
  term.expect_keys({"keep", "share", "piece", "sinks"});
  keep_ = KeepWithSinks(term);
  piece_ = term.integer("piece", 16, kMaxTokens, 2048);
  by_layer_ = term.choice("share", {"layer", "head"}) != "head";

  std::vector<std::string> arguments;
  if (keep_.keep.text() != "512") arguments.push_back("keep=" + keep_.keep.text());
  if (!by_layer_) arguments.emplace_back("share=head");
  if (piece_ != 2048) arguments.push_back(fmt::format("piece={}", piece_));
  if (keep_.sinks != 4) arguments.push_back(fmt::format("sinks={}", keep_.sinks));
  text_ = print_term(term.name, arguments);
}

// Those of the probe, which come after the prompt's.
Observe KvzipPolicy::observes(const Ahead& ahead) const {
  if (ahead.phase == Phase::kDecode) return {};
  return {.first_query = ahead.prompt_end, .most = true};
}

double KvzipPolicy::score(const HeadRows& rows, std::uint32_t row) const {
  if (rows.pos[row] < keep_.sinks) return std::numeric_limits<double>::infinity();
  return rows.mass.empty() ? 0 : rows.total(row);
}

void KvzipPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  std::ranges::transform(sets, keep.begin(), every_row);
  if (!selects(step)) return;
  const auto budget = static_cast<std::size_t>(keep_.rows(step.prompt()));
  const auto scored = [this](const HeadRows& rows, std::uint32_t row) { return score(rows, row); };
  std::size_t all = 0;
  for (const HeadRows& rows : sets) all += rows.pos.size();
  const bool measured = !sets.front().mass.empty();  // without, as in a plan, heads are alike
  if (by_layer_ && measured) {
    if (all > budget * sets.size()) drop_lowest_of_all(sets, keep, all - budget * sets.size(), scored);
    return;
  }
  for (std::size_t set = 0; set < sets.size(); ++set)
    keep[set] = keep_highest(sets[set], budget, 0, [&](std::uint32_t row) { return score(sets[set], row); });
}

Pos KvzipPolicy::most_rows(Pos length, Pos prompt_length) const {
  const Pos most = by_layer_ ? prompt_length : keep_.rows(prompt_length);  // a head may get what the others do not
  return Every().most_rows(most, length, prompt_length);
}

}  // namespace lamina
