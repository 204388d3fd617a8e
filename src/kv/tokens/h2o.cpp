// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/h2o.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {

H2oPolicy::H2oPolicy(const Term& term) {
  require(!term.flag("streaming"), "{} has the argument streaming, expected {} + grid(N): it bounds a prompt's rows",
          term.name, term.name);
  term.expect_keys_and_flags({"heavy", "recent", "every", "readers"}, {"oneshot", "average"});
  const Term none{.name = term.name, .arguments = {}};
  const Budget usual(none, "heavy", "0.1", 0);
  heavy_ = Budget(term, "heavy", "0.1", 0);
  recent_ = Budget(term, "recent", "0.1", 0);
  require(heavy_.rows(1'000'000) + recent_.rows(1'000'000) > 0, "{} keeps no rows: heavy={} and recent={}", term.name,
          heavy_.text(), recent_.text());
  oneshot_ = term.flag("oneshot");
  average_ = term.flag("average");
  every_ = Every(term);
  require(oneshot_ || !every_, "{} has every=, which goes with oneshot: else rows go at every token", term.name);
  const std::string_view readers = term.choice("readers", {"owner", "sum", "max"});
  readers_ = readers == "sum" ? Readers::kSum : readers == "max" ? Readers::kMax : Readers::kOwner;

  std::vector<std::string> arguments;
  if (heavy_ != usual) arguments.push_back("heavy=" + heavy_.text());
  if (recent_ != usual) arguments.push_back("recent=" + recent_.text());
  every_.print_to(arguments);
  if (readers_ != Readers::kOwner) arguments.push_back(fmt::format("readers={}", readers));
  if (oneshot_) arguments.emplace_back("oneshot");
  if (average_) arguments.emplace_back("average");
  text_ = print_term(term.name, arguments);
}

Observe H2oPolicy::observes(const Ahead& ahead) const {
  return ahead.phase != Phase::kDecode || !oneshot_ || every_ ? Observe{.first_query = 0} : Observe{};
}

Pos H2oPolicy::recent(Pos prompt) const { return std::max(recent_.rows(prompt), 1); }

void H2oPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const auto heavy = static_cast<std::size_t>(heavy_.rows(step.prompt())),
             recent = static_cast<std::size_t>(this->recent(step.prompt()));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const auto score = [&](std::uint32_t row) {
      return average_ ? rows.total(row) / (step.length - rows.pos[row]) : rows.total(row);
    };
    keep[set] = selects(step) ? keep_highest(rows, heavy + recent, recent, score) : every_row(rows);
  }
}

std::optional<Fade> H2oPolicy::fades(const Step& step, std::uint8_t /*tag*/) const {
  if (oneshot_ || average_) return std::nullopt;  // chosen seldom; scores fall
  return Fade{.budget = static_cast<std::size_t>(heavy_.rows(step.prompt())), .newest = recent(step.prompt())};
}

Pos H2oPolicy::most_rows(Pos length, Pos prompt_length) const {
  const Pos kept = heavy_.rows(prompt_length) + recent(prompt_length);
  return oneshot_ ? every_.most_rows(kept, length, prompt_length) : std::min(length, kept);
}

}  // namespace lamina
