// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/streaming.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxRows = 1'000'000'000;  // so that sinks + rows stays an int
constexpr int kDefaultSinks = 4;
constexpr std::int64_t kMillion = 1'000'000;

// "0.25" and "25%" in millionths, exactly: a double's 0.29 * 100 is below 29. Empty for anything but a fraction.
std::optional<std::int64_t> parse_fraction(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  const std::size_t point = std::min(text.find('.'), text.size());
  if (!percent && point == text.size()) return std::nullopt;
  const std::string_view decimals = text.substr(std::min(point + 1, text.size()));
  const std::size_t places = percent ? 4 : 6;
  if (point == 0 || point > 3 || decimals.size() > places || (point < text.size() && decimals.empty())) return {};
  std::string digits(text.substr(0, point));
  digits.append(decimals).append(places - decimals.size(), '0');
  std::int64_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return std::nullopt;
    value = value * 10 + (digit - '0');
  }
  if (value <= 0 || value > kMillion) return std::nullopt;
  return value;
}

std::string print_fraction(std::int64_t millionths) {
  std::string text = fmt::format("{}.{:06}", millionths / kMillion, millionths % kMillion);
  while (text.ends_with('0') && !text.ends_with(".0")) text.pop_back();
  return text;
}

}  // namespace

StreamingPolicy::StreamingPolicy(const Term& term) : renumbers_(term.name == "streaming") {
  term.expect_keys({"sinks", "window", "keep"});
  const std::string* keep = term.find("keep");
  const std::string* window = term.find("window");
  require((keep == nullptr) != (window == nullptr), "{} {}, expected {}(window=N) or {}(keep=N)", term.name,
          keep == nullptr ? "says not how much to keep" : "has both window= and keep=", term.name, term.name);
  sinks_ = term.integer("sinks", 0, kMaxRows, kDefaultSinks);
  std::string budget;
  if (window != nullptr) {
    newest_ = term.integer("window", 1, kMaxRows, 0) - 1;
    budget = fmt::format("window={}", newest_ + 1);
  } else if (keep->find_first_of(".%") != std::string::npos) {
    const std::optional<std::int64_t> fraction = parse_fraction(*keep);
    require(fraction.has_value(),
            "keep of {} is \"{}\", expected a fraction up to 1.0 or 100% with at most six decimals", term.name, *keep);
    keep_millionths_ = *fraction;
    budget = "keep=" + print_fraction(keep_millionths_);
  } else {
    const int rows = term.integer("keep", 1, kMaxRows, 0);
    require(rows > sinks_, "keep of {} is {}, expected more rows than the {} sinks that it counts", term.name, rows,
            sinks_);
    newest_ = rows - sinks_;
    budget = fmt::format("keep={}", rows);
  }
  text_ = sinks_ == kDefaultSinks ? fmt::format("{}({})", term.name, budget)
                                  : fmt::format("{}(sinks={},{})", term.name, sinks_, budget);
}

Pos StreamingPolicy::newest(Pos prompt_length) const {
  if (keep_millionths_ == 0) return newest_;
  const auto rows = static_cast<Pos>(keep_millionths_ * prompt_length / kMillion);
  return std::max(rows - sinks_, 1);
}

Keep StreamingPolicy::select(const Step& step, std::span<const HeadRows> heads) const {
  if (heads.empty()) return {};
  const std::span<const Pos> pos = heads.front().pos;
  assert(std::ranges::all_of(heads, [&](const HeadRows& head) { return head.pos.size() == pos.size(); }));
  // Inside a prompt (grid) its end is not known: the fraction is one of the text so far.
  const Pos prompt_length = step.phase == Phase::kDecode ? step.prompt_length : step.length;
  const auto rank = [&](Pos first) { return std::ranges::lower_bound(pos, first) - pos.begin(); };
  const auto sinks = rank(sinks_);
  const auto begin = std::max(rank(step.length - newest(prompt_length)), sinks);
  const auto rows = static_cast<std::ptrdiff_t>(pos.size());
  Keep keep(static_cast<std::size_t>(sinks + rows - begin));
  std::iota(keep.begin(), keep.begin() + sinks, 0U);
  std::iota(keep.begin() + sinks, keep.end(), static_cast<std::uint32_t>(begin));
  return keep;
}

Pos StreamingPolicy::most_rows(Pos length, Pos prompt_length) const {
  return std::min(length, sinks_ + newest(prompt_length));
}

}  // namespace lamina
