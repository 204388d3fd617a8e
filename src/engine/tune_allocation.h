// SPDX-License-Identifier: Apache-2.0
// A format and a share of the rows for each layer: the least sum of what they cost alone within a budget of bytes.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "engine/tune_layers.h"

namespace lamina {

struct LayerOption {
  double cost = 0;
  std::size_t bytes = 0;
};

// [layer] the index of its option; of equal sums that which gives the lower layers their first options. Bytes are
// counted in units of a 16384th of the budget, rounded up: what is chosen fits, and what is least is so but for that.
// Empty where nothing fits, or a layer has no option.
std::optional<std::vector<std::size_t>> allocate(std::span<const std::vector<LayerOption>> options, std::size_t most);

// The costs of single layers, which do not add up, times what makes their sum that of all layers at once; not below a
// quarter or above four times. Infinite where there is none.
std::vector<double> additive(const LayerCosts& costs);

// What layers choose from, besides f16 and all rows.
struct LayerFolds {
  std::vector<BitsCosts> bits;  // of one rotation
  std::vector<RowsCosts> rows;  // of one method
  std::vector<int> target;      // [layer] the layer whose rows it reads; empty: its own
};
// Empty where nothing fits.
std::optional<Candidate> allocated_candidate(const LayerFolds& folds, const ByteBudget& budget);

}  // namespace lamina
