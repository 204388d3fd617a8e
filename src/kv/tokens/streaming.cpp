// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/streaming.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxRows = 1'000'000'000;  // so that sinks + rows stays an int
constexpr int kDefaultSinks = 4;

}  // namespace

StreamingPolicy::StreamingPolicy(const Term& term) : renumbers_(term.name == "streaming") {
  term.expect_keys({"sinks", "window", "keep"});
  const std::string* keep = term.find("keep");
  const std::string* window = term.find("window");
  require((keep == nullptr) != (window == nullptr), "{} {}, expected {}(window=N) or {}(keep=N)", term.name,
          keep == nullptr ? "says not how much to keep" : "has both window= and keep=", term.name, term.name);
  sinks_ = term.integer("sinks", 0, kMaxRows, kDefaultSinks);
  has_window_ = window != nullptr;
  std::string budget;
  if (has_window_) {
    newest_ = term.integer("window", 1, kMaxRows, 0) - 1;
    budget = fmt::format("window={}", newest_ + 1);
  } else {
    keep_ = Budget(term, "keep", "", 1);
    require(keep_.is_fraction() || keep_.rows(0) > sinks_,
            "keep of {} is {}, expected more rows than the {} sinks that it counts", term.name, keep_.text(), sinks_);
    budget = "keep=" + keep_.text();
  }
  text_ = sinks_ == kDefaultSinks ? fmt::format("{}({})", term.name, budget)
                                  : fmt::format("{}(sinks={},{})", term.name, sinks_, budget);
}

Pos StreamingPolicy::newest(Pos prompt_length) const {
  return has_window_ ? newest_ : std::max(keep_.rows(prompt_length) - sinks_, 1);
}

void StreamingPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const std::span<const Pos> pos = sets[set].pos;
    const auto rank = [&](Pos first) { return std::ranges::lower_bound(pos, first) - pos.begin(); };
    const auto sinks = rank(sinks_);
    const auto begin = std::max(rank(step.length - newest(step.prompt_length)), sinks);
    keep[set].resize(static_cast<std::size_t>(sinks + std::ssize(pos) - begin));
    std::iota(keep[set].begin(), keep[set].begin() + sinks, 0U);
    std::iota(keep[set].begin() + sinks, keep[set].end(), static_cast<std::uint32_t>(begin));
  }
}

Pos StreamingPolicy::most_rows(Pos length, Pos prompt_length) const {
  return std::min(length, sinks_ + newest(prompt_length));
}

}  // namespace lamina
