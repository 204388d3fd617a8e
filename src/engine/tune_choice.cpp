// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "engine/statistics.h"

namespace lamina {
namespace {

using Finalists = std::span<const Alternative>;

// Of these finalists the one of the least mean; of equal ones the first.
template <class Fn>
std::size_t least(std::span<const std::size_t> of, Finalists finalists, Fn values) {
  return *std::ranges::min_element(of, {}, [&](std::size_t i) { return mean(values(finalists[i])); });
}

std::vector<double> selection_kl(const Alternative& a) { return a.selection.kl; }
std::vector<double> held_out_kl(const Alternative& a) { return a.held_out.kl; }
std::vector<double> all_kl(const Alternative& a) { return a.all_kl(); }

std::string shown(const Estimate& d) { return fmt::format("{:+.5f} +- {:.5f}", d.mean, d.error); }

void verify(Finalists finalists, std::span<const std::size_t> eligible, Decision& decision) {
  const Alternative& selected = finalists[decision.selected];
  const Alternative& best = finalists[least(eligible, finalists, held_out_kl)];
  if (mean(best.held_out.kl) >= mean(selected.held_out.kl)) {
    decision.reasons.emplace_back("Held-out windows confirm the selection's choice.");
    return;
  }
  decision.chosen = least(eligible, finalists, all_kl);
  decision.reasons.push_back(fmt::format(
      "Held-out windows prefer another spec than the selection's (KL {}): the least KL over all windows decides{}.",
      shown(difference(best.held_out.kl, selected.held_out.kl)),
      decision.chosen == decision.selected ? ", and it stays" : ""));
}

void prefer_single_axis(Finalists finalists, std::span<const std::size_t> eligible, Decision& decision) {
  std::vector<std::size_t> single;
  for (const std::size_t i : eligible)
    if (finalists[i].candidate.axes.count() == 1) single.push_back(i);
  if (single.empty() || finalists[decision.chosen].candidate.axes.count() == 1) return;
  const std::size_t best = least(single, finalists, all_kl);
  const Estimate d = difference(finalists[decision.chosen].all_kl(), finalists[best].all_kl());
  const bool better = d.mean + d.error < 0;
  decision.reasons.push_back(fmt::format("Its KL less that of the best single axis is {} over all windows{}.", shown(d),
                                         better ? "" : ": no certain gain, so the single axis is chosen"));
  if (!better) decision.chosen = best;
}

void prefer_speed(Finalists finalists, std::span<const std::size_t> eligible, Decision& decision) {
  const auto speed = [&](std::size_t i) { return finalists[i].tokens_per_second.value_or(0); };
  const std::size_t best = decision.chosen;
  for (const std::size_t i : eligible) {
    const Estimate d = difference(finalists[i].all_kl(), finalists[best].all_kl());
    if (d.mean <= d.error && speed(i) > speed(decision.chosen)) decision.chosen = i;
  }
  if (decision.chosen == best) return;
  decision.reasons.push_back(
      fmt::format("The fastest of those within a standard error is chosen: {:.1f} tokens/s beside {:.1f}, KL {}.",
                  speed(decision.chosen), speed(best),
                  shown(difference(finalists[decision.chosen].all_kl(), finalists[best].all_kl()))));
}

// That of the largest margin; of equal ones that of the least KL.
std::size_t closest(Finalists finalists, std::span<const std::size_t> of, const Floor& floor) {
  return *std::ranges::min_element(
      of, {}, [&](std::size_t i) { return std::pair(-floor.margin(finalists[i]).mean, mean(all_kl(finalists[i]))); });
}

void doubt(const Alternative& chosen, const Floor& floor, Decision& decision) {
  const Estimate margin = floor.margin(chosen);
  if (!(std::abs(margin.mean) < margin.error)) return;
  decision.reasons.push_back(
      fmt::format("It {} the floor by less than a standard error ({}): another text may tell otherwise.",
                  decision.meets_floor ? "meets" : "misses", floor.figure(chosen)));
}

// Which of the axes' own competitions it is in; 0: none, it folds several.
std::size_t group_of(const Axes& axes) { return axes.count() > 1 ? 0 : axes.layers ? 1 : axes.tokens ? 2 : 3; }

}  // namespace

Estimate estimate(std::span<const double> values) { return {.mean = mean(values), .error = standard_error(values)}; }

Estimate difference(std::span<const double> a, std::span<const double> b) {
  assert(a.size() == b.size());
  std::vector<double> less(a.size());
  std::ranges::transform(a, b, less.begin(), std::minus());
  return estimate(less);
}

std::vector<double> Alternative::all_kl() const {
  std::vector<double> all = selection.kl;
  all.insert(all.end(), held_out.kl.begin(), held_out.kl.end());
  return all;
}

Estimate Floor::margin(const Alternative& a) const {
  if (!top1 && !kl) return {.mean = std::numeric_limits<double>::infinity()};
  Estimate found = estimate(top1 ? a.held_out.top1 : a.held_out.kl);
  found.mean = top1 ? found.mean - *top1 : *kl - found.mean;
  return found;
}

std::string Floor::figure(const Alternative& a) const {
  const Estimate top1_found = estimate(a.held_out.top1), kl_found = estimate(a.held_out.kl);
  return top1 ? fmt::format("top-1 {:.4f} +- {:.4f}, asked for at least {}", top1_found.mean, top1_found.error, *top1)
              : fmt::format("KL {:.5f} +- {:.5f}, asked for at most {}", kl_found.mean, kl_found.error, kl.value_or(0));
}

Decision decide(Finalists finalists, const Floor& floor, bool by_speed) {
  assert(!finalists.empty());
  std::vector<std::size_t> all(finalists.size()), eligible;
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::ranges::copy_if(all, std::back_inserter(eligible), [&](std::size_t i) { return floor.met_by(finalists[i]); });
  Decision decision{.meets_floor = !eligible.empty(), .reasons = {}};
  decision.chosen = decision.selected = least(decision.meets_floor ? eligible : all, finalists, selection_kl);
  if (decision.meets_floor) {
    verify(finalists, eligible, decision);
    prefer_single_axis(finalists, eligible, decision);
    if (by_speed) prefer_speed(finalists, eligible, decision);
  } else {
    decision.chosen = closest(finalists, all, floor);
    decision.reasons.push_back(
        fmt::format("None of the {} specs verified on held-out windows meets the floor; the one that is marked as "
                    "chosen comes closest.",
                    finalists.size()));
  }
  doubt(finalists[decision.chosen], floor, decision);
  return decision;
}

void keep_lowest(std::vector<Alternative>& all, std::size_t count, std::size_t of_each, const Floor& floor,
                 std::vector<Alternative>& left) {
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return mean(all[i].selection.kl); });
  std::vector<bool> is_kept(all.size());
  std::array<std::size_t, 4> of_group{of_each};  // several axes: `count` only
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    std::size_t& kept = of_group.at(group_of(all[order[rank]].candidate.axes));
    is_kept[order[rank]] = rank < count || kept < of_each;
    if (is_kept[order[rank]]) ++kept;
  }
  if (floor.top1) {
    std::ranges::stable_sort(order, std::greater(), [&](std::size_t i) { return mean(all[i].selection.top1); });
    for (std::size_t rank = 0; rank < std::min(of_each, order.size()); ++rank) is_kept[order[rank]] = true;
  }
  std::vector<Alternative> some;
  for (std::size_t i = 0; i < all.size(); ++i) (is_kept[i] ? some : left).push_back(std::move(all[i]));
  all = std::move(some);
}

}  // namespace lamina
