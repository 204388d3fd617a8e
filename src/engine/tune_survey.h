// SPDX-License-Identifier: Apache-2.0
// Each axis by itself: which formats and which token methods are worth to be combined, on a model and a text.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "engine/one_step_kl.h"
#include "engine/tune_specs.h"

namespace lamina {

// KL of all layers at once, told in one step (engine/one_step_kl.h).
struct Survey {
  struct OfBits {
    RowBits bits;
    std::size_t bytes = 0;
    double kl = 0;
  };
  struct OfMethod {
    TokenMethod method;
    std::vector<double> kl;  // [share]; infinite where it cannot be
  };
  std::vector<OfBits> bits;
  std::vector<OfMethod> methods;
};
// shares: of a prompt's rows, that methods keep.
Survey survey_axes(const Subject& subject, const PromptedWindows& text, const ByteBudget& budget,
                   std::span<const double> shares);

struct Promising {
  std::vector<RowBits> bits;            // that no other format beats in bytes and KL, the largest first
  std::vector<RowBits> bits_by_layer;   // the same of each rotation alone, those around the budget
  std::optional<RowBits> bits_by_head;  // of these the one nearest the budget
  std::vector<TokenMethod> methods;     // the best of all shares
  std::vector<TokenMethod> methods_by_layer;
};
// Formats of a KL above 2 nats are left out. Methods are ranked by the sum over shares of their KL beside the least.
Promising promising(const Survey& survey, std::size_t most_bytes);

}  // namespace lamina
