// SPDX-License-Identifier: Apache-2.0
// What each layer, alone, costs the model's output on a text when one axis is folded there, and what each head needs.
#pragma once
#include <limits>
#include <span>
#include <vector>

#include "engine/one_step_kl.h"
#include "engine/tune_specs.h"

namespace lamina {

struct LayerCosts {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> kl;   // [layer] of it alone; NaN where it cannot be
  double together = kNone;  // of all layers at once; NaN: not measured
};

// Rows in this format, the others in f16; this share of the rows, the others whole.
struct BitsCosts {
  RowBits bits;
  LayerCosts costs;
};
struct RowsCosts {
  TokenMethod method;
  double keep = 0;
  LayerCosts costs;
};
// A layer reads the rows of an earlier one, of the two most alike the better.
struct SharingCosts {
  std::vector<int> source;  // [layer]; itself where it can read none
  LayerCosts costs;
};

struct Sensitivity {
  std::vector<BitsCosts> bits;
  std::vector<RowsCosts> rows;  // [method][share]
  SharingCosts sharing;         // as SharingKl says
};
// subject.on_step is called after each question on each window; it may throw to end the work.
Sensitivity ask_layers(const Subject& subject, const PromptedWindows& text, std::span<const RowBits> bits,
                       std::span<const TokenMethod> methods, std::span<const double> shares);

// The map in which the `count` layers of the least cost share; fewer where the others are read themselves.
std::vector<int> share_cheapest(const SharingCosts& sharing, int count);

}  // namespace lamina
