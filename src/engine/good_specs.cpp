// SPDX-License-Identifier: Apache-2.0
#include "engine/good_specs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/tune_specs.h"

namespace lamina {
namespace {

struct GoodSpec {
  int percent;         // 100: whatever it takes
  const char* method;  // of TokenMethod; empty: all rows
  const char* bits;
};

// Every method of the tokens axis was measured with every format, both sized for the share after the prompt, on SmolLM2
// and Gemma 3 with the windows of the quick suite. Here are, by the KL of both models, formats alone where any fits,
// and the first of each kind of method: by attention as decoding or the prompt's end sees it, and, where no format fits
// alone, by the text alone (KVzip, which takes three times a prompt's time; little of it fits on Gemma 3).
constexpr std::array<GoodSpec, 14> kGood{{{100, "", "k8v8"},
                                          {50, "", "k8v4"},
                                          {50, "", "kivi4"},
                                          {50, "", "kivi4 + rotate"},
                                          {50, "h2o oneshot", "k8v8"},
                                          {33, "", "k4v4 + rotate"},
                                          {33, "h2o", "k4v4 + rotate"},
                                          {33, "h2o oneshot", "kivi4"},
                                          {25, "kvzip", "k4v4 + rotate"},
                                          {25, "h2o oneshot", "k4v4 + rotate"},
                                          {25, "snapkv", "k4v4 + rotate"},
                                          {12, "kvzip", "k4v2 + rotate"},
                                          {12, "h2o oneshot", "k4v2 + rotate"},
                                          {12, "expected", "k4v2 + rotate"}}};

// Those of the tokens axis, and one that keeps all rows.
std::vector<TokenMethod> methods_of(const KvShape& shape) {
  std::vector<TokenMethod> methods = token_methods(shape);
  methods.push_back({.name = "", .term = [](double) { return std::string(); }});
  return methods;
}

// Why the model has no such spec of the budget.
std::string reason(const TokenMethod& method, const std::string& bits, const ByteBudget& budget) {
  constexpr double kSmallest = 0.001;
  try {
    const auto spec =
        std::make_shared<const KvSpec>(KvSpec::parse(joined_terms({method.term(kSmallest), bits}), budget.shape));
    return fmt::format("it takes at least {:.1f} % of the dense cache's bytes after {} tokens",
                       100 * static_cast<double>(budget.bytes(spec)) / static_cast<double>(budget.dense()),
                       budget.prompt + budget.decoded);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

std::vector<int> good_shares() {
  std::vector<int> shares;
  for (const GoodSpec& good : kGood)
    if (good.percent < 100 && (shares.empty() || shares.back() != good.percent)) shares.push_back(good.percent);
  return shares;
}

GoodSpecs good_specs(int percent, const KvShape& shape, Pos prompt, Pos decoded) {
  const std::vector<TokenMethod> methods = methods_of(shape);
  ByteBudget budget{.shape = shape, .prompt = prompt, .decoded = decoded};
  const std::size_t dense = budget.dense();
  GoodSpecs found;
  for (const GoodSpec& good : kGood) {
    if (percent != 0 && good.percent != percent) continue;
    budget.most = dense * static_cast<std::size_t>(good.percent) / 100;
    const auto method = std::ranges::find(methods, good.method, &TokenMethod::name);
    const bool is_known = method != methods.end();
    if (auto candidate = is_known ? largest_keep(*method, good.bits, budget) : std::nullopt) {
      found.specs.push_back(std::move(candidate->spec));
      continue;
    }
    const std::string why =
        is_known ? reason(*method, good.bits, budget) : "it is for layers without a window, which the model has not";
    found.left_out.push_back(fmt::format("{} of {} %: {}", joined_terms({good.method, good.bits}), good.percent, why));
  }
  return found;
}

}  // namespace lamina
