// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/fastgen.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr std::string_view kPartNames[] = {"special", "punct", "frequent", "local"};
constexpr std::string_view kUsualOrder = "special/punct/frequent/local";
constexpr double kTolerance = 1e-9;  // a recovery that is asked for exactly may be off by rounding

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::vector<FastGenPolicy::Parts> parse_order(const Term& term, std::string_view text) {
  std::vector<FastGenPolicy::Parts> order;
  std::vector<std::string_view> named;
  for (const std::string_view names : split(text, '/')) {
    FastGenPolicy::Parts& parts = order.emplace_back();
    for (const std::string_view name : split(names, '+')) {
      const auto* const found = std::ranges::find(kPartNames, name);
      require(found != std::end(kPartNames), "order of {} names \"{}\", expected some of {}", term.name, excerpt(name),
              kUsualOrder);
      require(std::ranges::find(named, name) == named.end(), "order of {} names {} twice", term.name, name);
      named.push_back(name);
      parts.push_back(static_cast<FastGenPolicy::Part>(found - std::begin(kPartNames)));
    }
    std::ranges::sort(parts);
  }
  return order;
}

std::string print_order(const std::vector<FastGenPolicy::Parts>& order) {
  std::string text;
  for (const FastGenPolicy::Parts& parts : order)
    for (const FastGenPolicy::Part part : parts) {
      if (!text.empty()) text += part == parts.front() ? '/' : '+';
      text += FastGenPolicy::name(part);
    }
  return text;
}

Budget fraction(const Term& term, std::string_view key) {
  Budget budget(term, key, "0.3", 0);
  require(budget.is_fraction(), "{} of {} is {}, expected a fraction such as 0.3", key, term.name, budget.text());
  return budget;
}

}  // namespace

std::string_view FastGenPolicy::name(Part part) { return kPartNames[static_cast<int>(part)]; }

FastGenPolicy::FastGenPolicy(const Term& term) {
  term.expect_keys({"recovery", "recent", "frequent", "order", "criterion", "group", "decode", "first", "blanks"});
  recovery_ = term.number("recovery", 0, 1, 0.95);
  recent_ = fraction(term, "recent");
  frequent_ = fraction(term, "frequent");
  const std::string* const order = term.find("order");
  order_ = parse_order(term, order != nullptr ? *order : kUsualOrder);
  l1_ = term.choice("criterion", {"mass", "l1"}) == "l1";
  by_least_ = term.choice("group", {"mean", "min"}) == "min";
  reselect_ = term.choice("decode", {"literal", "reselect"}) == "reselect";
  first_ = term.choice("first", {"on", "off"}) != "off";
  blanks_ = term.choice("blanks", {"on", "off"}) != "off";

  std::vector<std::string> arguments;
  if (recovery_ != 0.95) arguments.push_back(fmt::format("recovery={}", recovery_));
  if (recent_.text() != "0.3") arguments.push_back("recent=" + recent_.text());
  if (frequent_.text() != "0.3") arguments.push_back("frequent=" + frequent_.text());
  if (print_order(order_) != kUsualOrder) arguments.push_back("order=" + print_order(order_));
  if (l1_) arguments.emplace_back("criterion=l1");
  if (by_least_) arguments.emplace_back("group=min");
  if (reselect_) arguments.emplace_back("decode=reselect");
  if (!first_) arguments.emplace_back("first=off");
  if (!blanks_) arguments.emplace_back("blanks=off");
  text_ = print_term(term.name, arguments);
}

bool FastGenPolicy::has(Part part, std::size_t policies) const {
  const auto end = order_.begin() + static_cast<std::ptrdiff_t>(policies);
  return std::any_of(order_.begin(), end,
                     [&](const Parts& parts) { return std::ranges::find(parts, part) != parts.end(); });
}

Observe FastGenPolicy::observes(const Ahead& ahead) const {
  const bool decodes = ahead.phase == Phase::kDecode;
  if (recovery_ >= 1 && decodes) return {};  // every head is full
  if (decodes) return has(Part::kFrequent, order_.size()) ? Observe{.first_query = 0} : Observe{};
  return {.first_query = 0, .far = window(ahead.prompt_end), .by_query_head = by_least_};
}

Held FastGenPolicy::held_classes(std::size_t policies) const {
  Held held;
  const bool special = has(Part::kSpecial, policies), punct = has(Part::kPunct, policies);
  held.first = special && first_;
  held.classes[static_cast<std::size_t>(TokenClass::kSpecial)] = special;
  held.classes[static_cast<std::size_t>(TokenClass::kPunctuation)] = punct;
  held.classes[static_cast<std::size_t>(TokenClass::kBlank)] = punct && blanks_;
  return held;
}

Keep FastGenPolicy::most_attended(const HeadRows& rows, std::size_t count) const {
  return keep_highest(rows, count, 0, [&](std::uint32_t row) { return rows.total(row); });
}

// The mean over queries of what the rows that the policy would hold then were given: of a query's local rows those near
// the query, so of a row that is kept for nothing else what the near queries gave it.
double FastGenPolicy::recovery(const HeadRows& rows, std::size_t policies, const std::vector<bool>& frequent) const {
  const bool local = has(Part::kLocal, policies), by_attention = has(Part::kFrequent, policies);
  const Held held = held_classes(policies);
  const int heads = by_least_ ? rows.columns / rows.kinds : 1;
  double least = 1;
  for (int head = 0; head < heads; ++head) {
    double kept = 0, all = 0;
    for (std::size_t row = 0; row < rows.pos.size(); ++row) {
      const double mass = by_least_ ? rows.part(row, head, 0) : rows.total(row, 0);
      const double far = by_least_ ? rows.part(row, head, 1) : rows.total(row, 1);
      all += mass;
      if (held.holds(rows, row) || (by_attention && frequent[row]))
        kept += mass;
      else if (local)
        kept += mass - far;
    }
    least = std::min(least, all > 0 ? kept / all : 0);
  }
  return least;
}

std::vector<double> FastGenPolicy::recoveries(const HeadRows& rows, Pos length) const {
  std::vector<bool> frequent(rows.pos.size());
  for (const std::uint32_t row : most_attended(rows, static_cast<std::size_t>(frequent_.rows_up(length))))
    frequent[row] = true;
  std::vector<double> result;
  for (std::size_t policies = 1; policies <= order_.size(); ++policies)
    result.push_back(recovery(rows, policies, frequent));
  return result;
}

std::size_t FastGenPolicy::choose(const std::vector<double>& recoveries) const {
  if (recovery_ >= 1) return order_.size();  // "full" alone recovers everything, whatever rounding says
  const double wanted = l1_ ? (1 + recovery_) / 2 : recovery_;
  return static_cast<std::size_t>(std::ranges::find_if(recoveries, [&](double r) { return r >= wanted - kTolerance; }) -
                                  recoveries.begin());
}

void FastGenPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    keep[set] = every_row(rows);
    if (*rows.tag == 0) {
      if (step.phase != Phase::kPromptEnd) continue;  // inside a prompt (grid) nothing is known yet
      *rows.tag = static_cast<std::uint8_t>(1 + choose(recoveries(rows, step.length)));
    }
    const std::size_t chosen = *rows.tag - 1U;
    if (chosen < order_.size()) keep_of_head(step, rows, chosen + 1, keep[set]);
  }
}

Held FastGenPolicy::held(const Step& step, std::size_t policies) const {
  Held held = held_classes(policies);
  if (has(Part::kLocal, policies)) held.local = step.length - window(step.prompt_length);
  return held;
}

std::size_t FastGenPolicy::budget(const Step& step, std::size_t policies) const {
  return has(Part::kFrequent, policies) ? static_cast<std::size_t>(frequent_.rows_up(step.length)) : 0;
}

std::optional<Fade> FastGenPolicy::fades(const Step& step, std::uint8_t tag) const {
  if (reselect_) return std::nullopt;
  const std::size_t chosen = tag - 1U;
  if (tag == 0 || chosen >= order_.size()) return Fade{.budget = std::numeric_limits<std::size_t>::max()};  // all stay
  return Fade{.budget = budget(step, chosen + 1), .held = held(step, chosen + 1)};
}

// At the end of a prompt the most attended rows are chosen among all; later a row that nothing else holds goes only
// when there are too many of them.
void FastGenPolicy::keep_of_head(const Step& step, const HeadRows& rows, std::size_t policies, Keep& keep) const {
  const Held held = this->held(step, policies);
  const std::size_t budget = this->budget(step, policies);
  if (step.phase == Phase::kDecode && !reselect_) return fade(rows, {.budget = budget, .held = held}, keep);
  const Keep all = std::move(keep), frequent = budget > 0 ? most_attended(rows, budget) : Keep();
  Keep kept;
  std::ranges::copy_if(all, std::back_inserter(kept), [&](std::uint32_t row) { return held.holds(rows, row); });
  keep.clear();
  std::ranges::set_union(frequent, kept, std::back_inserter(keep));
}

}  // namespace lamina
