// SPDX-License-Identifier: Apache-2.0
#include "kv/bits/kivi.h"

#include <vector>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMostResidual = 1 << 20;

}  // namespace

std::optional<Kivi> Kivi::parse(const Term& term) {
  if (term.name != "kivi4" && term.name != "kivi2") return std::nullopt;
  term.expect_keys({"group", "residual", "bookkeeping"});
  Kivi kivi;
  kivi.bits = term.name == "kivi4" ? 4 : 2;
  if (const std::string_view group = term.choice("group", {"32", "64", "128"}); !group.empty())
    kivi.group = static_cast<std::uint32_t>(parse_integer("group", group, 32, 128));
  kivi.residual = static_cast<std::uint32_t>(term.integer("residual", 1, kMostResidual, 128));
  require(kivi.residual % kivi.group == 0, "residual of {} is {}, expected a multiple of its group of {}", term.name,
          kivi.residual, kivi.group);
  kivi.window = term.choice("bookkeeping", {"block", "window"}) == "window";
  return kivi;
}

std::string Kivi::text() const {
  std::vector<std::string> arguments;
  const Kivi defaults;
  if (group != defaults.group) arguments.push_back(fmt::format("group={}", group));
  if (residual != defaults.residual) arguments.push_back(fmt::format("residual={}", residual));
  if (window) arguments.emplace_back("bookkeeping=window");
  return print_term(bits == 4 ? "kivi4" : "kivi2", arguments);
}

std::uint32_t Kivi::encoded_keys(std::uint32_t rows) const {
  return window ? encoded_values(rows) / group * group : rows / residual * residual;
}

}  // namespace lamina
