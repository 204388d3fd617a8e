// SPDX-License-Identifier: Apache-2.0
// What a user may fold, on a model and a text of their own, to fit a budget of bytes: measures what each axis costs,
// alone, by layer and together, and chooses the spec of the least KL divergence to the dense cache. Works from many
// specs on few windows to few specs on many; the choice is verified on windows that the selection never saw.
#pragma once
#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "engine/suite.h"
#include "engine/tune_choice.h"
#include "engine/tune_heads.h"
#include "engine/tune_layers.h"

namespace lamina {

struct TuneOptions {
  std::size_t most_bytes = 0;  // of the whole cache after `context` tokens
  Pos context = 0;             // the last of which, as many as are scored of a window, are decoded
  Floor floor{};
  bool speed = false;
};

struct TuneResult {
  std::size_t dense_bytes = 0;
  Sensitivity sensitivity;
  HeadFolds head_folds;                   // the budget's format and share of rows, about
  std::vector<HeadCosts> heads;           // under these
  std::vector<Alternative> alternatives;  // all that fit: the finalists first, each part by KL
  std::size_t finalists = 0;
  Decision decision;  // of alternatives
  const Alternative& chosen() const { return alternatives.at(decision.chosen); }
};

// Called with what is being done and the share of all the work that is done, about. It may throw to end it.
using OnTune = std::function<void(std::string_view stage, double share)>;

// Error where no spec fits the budget. The same result for any number of threads and in every run, but for what
// --speed measures. The subject's on_step is not called.
TuneResult tune(const Subject& subject, const TuneText& text, const TuneOptions& options, const OnTune& on_tune);

}  // namespace lamina
