// SPDX-License-Identifier: Apache-2.0
// What it costs the model's output that a layer, or one KV head of it, reads the rows of an earlier layer: on whole
// prompts of few tokens, pieces of windows.
#pragma once
#include <vector>

#include "engine/map_trial.h"
#include "engine/one_step_kl.h"

namespace lamina {

class SharingKl {
 public:
  SharingKl(const Subject& subject, const PromptedWindows& text);

  // The mean of KL(dense || other) over tokens.
  double of_layer(int layer, int source);
  double of_head(const OneHead& head, int source);

  // K and V of each layer, averaged over the pieces.
  std::vector<LayerRows> mean_rows() const { return trial_.mean_rows(); }

 private:
  std::vector<int> own_;
  MapTrial trial_;
  OutputKl kl_;
};

}  // namespace lamina
