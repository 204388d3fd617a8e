// SPDX-License-Identifier: Apache-2.0
// How far specs move a model's output, measured fast: after a prompt and the commit that ends it the tokens that follow
// are fed in one step, several times as fast as one by one. What a spec would do between them is not seen.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "engine/suite.h"

namespace lamina {

// Windows of one length, the first `prompt` tokens of each are its prompt.
struct PromptedWindows {
  std::span<const std::vector<Token>> windows;
  std::size_t prompt = 0;
};

// [spec] the mean over windows and tokens of KL(dense || spec). subject.on_step is called after each spec and window.
std::vector<double> one_step_kl(const Subject& subject, Specs specs, const PromptedWindows& text);

}  // namespace lamina
