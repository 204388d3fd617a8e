// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/pyramidinfer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxRows = 1'000'000'000;
constexpr int kMaxInterval = 1'000'000;

}  // namespace

PyramidInferPolicy::PyramidInferPolicy(const Term& term) {
  term.expect_keys({"keep", "recent", "distance", "sinks", "min", "interval"});
  keep_ = term.number("keep", 0, 1, 0.9);
  recent_ = Budget(term, "recent", "0.2", 0);
  distance_ = term.number("distance", 0.001, 1000, 1.2);
  sinks_ = term.integer("sinks", 0, kMaxRows, 4);
  min_ = term.integer("min", 0, kMaxRows, 64);
  interval_ = term.integer("interval", 1, kMaxInterval, 1);

  std::vector<std::string> arguments;
  if (keep_ != 0.9) arguments.push_back(fmt::format("keep={}", keep_));
  if (recent_.text() != "0.2") arguments.push_back("recent=" + recent_.text());
  if (distance_ != 1.2) arguments.push_back(fmt::format("distance={}", distance_));
  if (sinks_ != 4) arguments.push_back(fmt::format("sinks={}", sinks_));
  if (min_ != 64) arguments.push_back(fmt::format("min={}", min_));
  if (interval_ != 1) arguments.push_back(fmt::format("interval={}", interval_));
  text_ = print_term(term.name, arguments);
}

Pos PyramidInferPolicy::first_recent(Pos start, Pos length) const {
  return std::max(start, length - 1 - recent_.rows(length - start));
}

Observe PyramidInferPolicy::observes(const Ahead& ahead) const {
  if (ahead.phase == Phase::kDecode) return {};
  const Pos first = first_recent(ahead.length, ahead.prompt_end), steps = ahead.prompt_end - 1 - first;
  const double slope = steps > 0 ? (distance_ - 1) / steps : 0;
  return {.first_query = first, .slope = static_cast<float>(slope)};
}

Keep PyramidInferPolicy::prune(int layer, int layers, Pos start, Pos length, const HeadRows& rows) const {
  const Pos first = first_recent(start, length);
  const auto context = std::ranges::lower_bound(rows.pos, first) - rows.pos.begin();
  const double ratio = layer % interval_ == 0 ? pyramid_ratio(layer, layers, keep_) : 1;
  const Pos kept = pyramid_context(static_cast<Pos>(context), ratio, std::min(min_, first - start));
  const auto score = [&](std::uint32_t row) {
    return rows.pos[row] < sinks_ ? std::numeric_limits<double>::infinity() : rows.total(row);
  };
  const std::size_t recent = rows.pos.size() - static_cast<std::size_t>(context);
  return keep_highest(rows, static_cast<std::size_t>(kept) + recent, recent, score);
}

void PyramidInferPolicy::select(const Step& /*step*/, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  std::ranges::transform(sets, keep.begin(), every_row);
}

double pyramid_ratio(int layer, int layers, double keep) {
  return (1 - keep) * (std::cos(std::numbers::pi * layer / layers) + 1) / 2 + keep;
}

Pos pyramid_context(Pos context, double ratio, Pos min) {
  const Pos kept = static_cast<Pos>(context * ratio);
  return kept > min ? kept : context;
}

}  // namespace lamina
