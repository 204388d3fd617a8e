// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_questions.h"

#include <algorithm>
#include <utility>

#include "engine/tune_specs.h"

namespace lamina {

Questions::Questions(const KvShape& shape) : specs_({spec_if_possible("rotate", shape)}) {}

void Questions::add(double& answer, std::shared_ptr<const KvSpec> spec) {
  if (spec == nullptr) return;
  specs_.push_back(std::move(spec));
  answers_.push_back(&answer);
}

void Questions::ask(const Subject& subject, const PromptedWindows& text) {
  const std::vector<double> kl = one_step_kl(subject, specs_, text);
  for (std::size_t i = 0; i < answers_.size(); ++i)
    *answers_[i] = specs_[i + 1]->rotate ? std::max(0.0, kl[i + 1] - kl.front()) : kl[i + 1];
}

}  // namespace lamina
