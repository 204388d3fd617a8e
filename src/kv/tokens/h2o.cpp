// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/h2o.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {

H2oPolicy::H2oPolicy(const Term& term) {
  term.expect_keys_and_flags({"heavy", "recent", "readers"}, {"oneshot", "average"});
  const Term none{.name = term.name, .arguments = {}};
  const Budget usual(none, "heavy", "0.1", 0);
  heavy_ = Budget(term, "heavy", "0.1", 0);
  recent_ = Budget(term, "recent", "0.1", 0);
  require(heavy_.rows(1'000'000) + recent_.rows(1'000'000) > 0, "{} keeps no rows: heavy={} and recent={}", term.name,
          heavy_.text(), recent_.text());
  oneshot_ = term.flag("oneshot");
  average_ = term.flag("average");
  const std::string_view readers = term.choice("readers", {"owner", "sum", "max"});
  readers_ = readers == "sum" ? Readers::kSum : readers == "max" ? Readers::kMax : Readers::kOwner;

  std::vector<std::string> arguments;
  if (heavy_ != usual) arguments.push_back("heavy=" + heavy_.text());
  if (recent_ != usual) arguments.push_back("recent=" + recent_.text());
  if (readers_ != Readers::kOwner) arguments.push_back(fmt::format("readers={}", readers));
  if (oneshot_) arguments.emplace_back("oneshot");
  if (average_) arguments.emplace_back("average");
  text_ = print_term(term.name, arguments);
}

Observe H2oPolicy::observes(Phase phase, Pos /*prompt_end*/) const {
  return selects(phase) ? Observe{.first_query = 0} : Observe{};
}

Pos H2oPolicy::recent(Pos prompt) const { return std::max(recent_.rows(prompt), 1); }

void H2oPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  const Pos prompt = step.phase == Phase::kDecode ? step.prompt_length : step.length;
  const auto heavy = static_cast<std::size_t>(heavy_.rows(prompt)),
             recent = static_cast<std::size_t>(this->recent(prompt));
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const HeadRows& rows = sets[set];
    const std::size_t n = rows.pos.size();
    keep[set] = every_row(rows);
    if (n <= heavy + recent || !selects(step.phase)) continue;
    const auto score = [&](std::uint32_t row) {
      return average_ ? rows.total(row) / (step.length - rows.pos[row]) : rows.total(row);
    };
    drop_lowest(keep[set], n - recent, n - recent - heavy, score);
  }
}

Pos H2oPolicy::most_rows(Pos length, Pos prompt_length) const {
  const Pos kept = heavy_.rows(prompt_length) + recent(prompt_length);
  return oneshot_ ? rows_after_prompt(kept, length, prompt_length) : std::min(length, kept);
}

}  // namespace lamina
