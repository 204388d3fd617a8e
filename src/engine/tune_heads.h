// SPDX-License-Identifier: Apache-2.0
// What each KV head, alone, costs the model's output on a text when one axis is folded there, and what it needs. Shown
// to the user: specs name no heads; policies by head are what fastgen finds anew for each prompt.
#pragma once
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/one_step_kl.h"
#include "engine/tune_specs.h"

namespace lamina {

// One fold of each axis, the same for all heads.
struct HeadFolds {
  std::optional<RowBits> bits{};
  std::optional<TokenMethod> method{};
  double keep = 0;            // what the method keeps
  std::vector<int> source{};  // [layer] which one's rows a head of it reads; itself: none
};

struct HeadCosts {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  int layer = 0, head = 0;
  double bits = kNone, tokens = kNone, layers = kNone;  // KL; NaN where it cannot be
  std::string policy{};  // FastGen's at a recovery of 0.95, "special+punct+frequent", …: that of the most windows
  double kept = 0;       // share of a prompt's rows that FastGen keeps there, mean over windows
};

// [layer][head] but for policy and kept. subject.on_step is called after each question on each window; it may throw to
// end the work.
std::vector<HeadCosts> ask_heads(const Subject& subject, const PromptedWindows& text, const HeadFolds& folds);
// Adds policy and kept. subject.on_step is called after each window.
void ask_needs(const Subject& subject, const PromptedWindows& text, std::vector<HeadCosts>& heads);

}  // namespace lamina
