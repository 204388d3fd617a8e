// SPDX-License-Identifier: Apache-2.0
// How `lamina tune` decides between specs that were measured on the same windows of a text. Tokens of one window are
// told by one cache and are not independent, so what is compared are windows' means, in pairs: the standard error of
// their mean difference is far below that of either mean.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/tune_measure.h"
#include "engine/tune_specs.h"

namespace lamina {

struct Estimate {
  double mean = 0, error = 0;  // the standard error of the mean; NaN of a single value
};
Estimate estimate(std::span<const double> values);
// Of a's values less b's.
Estimate difference(std::span<const double> a, std::span<const double> b);

struct Alternative {
  Candidate candidate;
  Figures selection{};                        // on windows that it was selected on
  Figures held_out{};                         // of finalists, on windows that the selection never saw
  std::optional<double> tokens_per_second{};  // of finalists, if asked for

  bool is_finalist() const { return !held_out.kl.empty(); }
  std::vector<double> all_kl() const;  // of both
};

// What a finalist must hold on the held-out windows.
struct Floor {
  std::optional<double> top1{}, kl{};  // at least, at most; one of them or none

  // How far on the right side of the floor it is, in the floor's own measure. Infinitely far without a floor.
  Estimate margin(const Alternative& alternative) const;
  bool met_by(const Alternative& alternative) const { return margin(alternative).mean >= 0; }
  // "top-1 0.9531 +- 0.0080, asked for at least 0.95".
  std::string figure(const Alternative& alternative) const;
};

struct Decision {
  std::size_t chosen = 0, selected = 0;  // `selected`: what the selection's windows alone would choose
  bool meets_floor = true;
  std::vector<std::string> reasons;  // sentences
};

// Of the finalists that meet the floor that of the least KL on the selection's windows; where the held-out windows find
// another one better, that of the least KL on all. One of several axes is chosen only where its mean difference to the
// best of one axis is more than a standard error below 0. `by_speed`: then the fastest of those whose difference to the
// choice is not more than a standard error above 0. If none meets the floor, that which comes closest to it.
Decision decide(std::span<const Alternative> finalists, const Floor& floor, bool by_speed);

// The `count` lowest by mean KL on the selection's windows, and those lowest of each axis alone until it has `of_each`
// of them; where the floor is one of top-1 also the `of_each` of the highest. The others go to `left`. Both keep their
// order.
void keep_lowest(std::vector<Alternative>& all, std::size_t count, std::size_t of_each, const Floor& floor,
                 std::vector<Alternative>& left);

}  // namespace lamina
