// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/expected.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kv/spec_parser.h"
#include "kv/tokens/every.h"

namespace lamina {
namespace {

constexpr int kMaxPositions = 1'000'000;

void softmax(std::span<double> x) {
  const double most = x.empty() ? 0 : *std::ranges::max_element(x);
  double sum = 0;
  for (double& value : x) sum += value = std::exp(value - most);
  for (double& value : x) value /= sum;
}

}  // namespace

ExpectedPolicy::ExpectedPolicy(const Term& term) {
  term.expect_keys({"keep", "future", "sinks", "covariance", "values", "epsilon"});
  keep_ = KeepWithSinks(term);
  future_ = term.integer("future", 1, kMaxPositions, 512);
  covariance_ = term.choice("covariance", {"on", "off"}) != "off";
  values_ = term.choice("values", {"on", "off"}) != "off";
  epsilon_ = term.number("epsilon", 0, 1e6, 0);
  require(values_ || epsilon_ == 0, "{} has an epsilon, which does nothing with values=off", term.name);

  std::vector<std::string> arguments;
  if (keep_.keep.text() != "512") arguments.push_back("keep=" + keep_.keep.text());
  if (future_ != 512) arguments.push_back(fmt::format("future={}", future_));
  if (keep_.sinks != 4) arguments.push_back(fmt::format("sinks={}", keep_.sinks));
  if (!covariance_) arguments.emplace_back("covariance=off");
  if (!values_) arguments.emplace_back("values=off");
  if (epsilon_ != 0) arguments.push_back(fmt::format("epsilon={}", epsilon_));
  text_ = print_term(term.name, arguments);
}

Observe ExpectedPolicy::observes(const Ahead& ahead) const {
  if (ahead.phase == Phase::kDecode) return {};
  return {.first_query = keep_.sinks, .future = future_};
}

void ExpectedPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto budget = static_cast<std::size_t>(keep_.rows(step.prompt()));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const bool drops = selects(step) && rows.pos.size() > budget;
    const std::vector<double> score = drops ? scores(rows) : std::vector<double>();
    keep[set] = drops ? keep_highest(rows, budget, 0, [&](std::uint32_t row) { return score[row]; }) : every_row(rows);
  }
}

std::vector<double> ExpectedPolicy::scores(const HeadRows& rows) const {
  const std::size_t n = rows.pos.size();
  std::vector<double> mean(n);
  if (rows.keys.empty()) return mean;  // a plan
  const auto sinks = static_cast<std::size_t>(std::ranges::lower_bound(rows.pos, keep_.sinks) - rows.pos.begin());
  for (const QueryMoments& head : rows.queries) {
    std::vector<double> score = expected_scores(head.next(), rows.keys, covariance_);
    softmax(std::span(score).subspan(sinks));
    for (std::size_t row = sinks; row < n; ++row) mean[row] += score[row] / static_cast<double>(rows.queries.size());
  }
  if (values_)
    for (std::size_t row = sinks; row < n; ++row) mean[row] = (mean[row] + epsilon_) * double{rows.value_norms[row]};
  std::fill_n(mean.begin(), sinks, std::numeric_limits<double>::infinity());
  return mean;
}

Pos ExpectedPolicy::most_rows(Pos length, Pos prompt_length) const {
  return Every().most_rows(keep_.rows(prompt_length), length, prompt_length);
}

}  // namespace lamina
