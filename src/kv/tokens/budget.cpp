// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/budget.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxRows = 1'000'000'000, kMaxSinks = 1'000'000;
constexpr std::int64_t kMillion = 1'000'000;

// "0.25" and "25%" in millionths. Empty for anything but a fraction from 0 to 1.
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
  if (value > kMillion) return std::nullopt;
  return value;
}

}  // namespace

Budget::Budget(const Term& term, std::string_view key, std::string_view fallback, int min) {
  const std::string* const given = term.find(key);
  const std::string text = given != nullptr ? *given : std::string(fallback);
  if (text.find_first_of(".%") == std::string::npos) {
    rows_ = parse_integer(fmt::format("{} of {}", key, term.name), text, min, kMaxRows);
    return;
  }
  const std::optional<std::int64_t> fraction = parse_fraction(text);
  require(fraction.has_value() && (*fraction > 0 || min == 0),
          "{} of {} is \"{}\", expected a fraction up to 1.0 or 100% with at most six decimals", key, term.name, text);
  millionths_ = *fraction;
}

Pos Budget::rows(Pos prompt) const { return is_fraction() ? static_cast<Pos>(millionths_ * prompt / kMillion) : rows_; }

Pos Budget::rows_up(Pos prompt) const {
  return is_fraction() ? static_cast<Pos>((millionths_ * prompt + kMillion - 1) / kMillion) : rows_;
}

std::string Budget::text() const {
  if (!is_fraction()) return fmt::format("{}", rows_);
  std::string text = fmt::format("{}.{:06}", millionths_ / kMillion, millionths_ % kMillion);
  while (text.ends_with('0') && !text.ends_with(".0")) text.pop_back();
  return text;
}

KeepWithSinks::KeepWithSinks(const Term& term)
    : keep(term, "keep", "512", 1), sinks(term.integer("sinks", 0, kMaxSinks, 4)) {
  require(keep.is_fraction() || keep.rows(0) >= sinks, "keep of {} is {}, expected at least the {} sinks", term.name,
          keep.text(), sinks);
}

Pos KeepWithSinks::rows(Pos prompt) const { return std::max({1, sinks, keep.rows(prompt)}); }

}  // namespace lamina
