// SPDX-License-Identifier: Apache-2.0
// Texts that a check of a model runs on, written for it: always at hand, and in nobody's training data.
#pragma once
#include <span>
#include <string_view>

namespace lamina {

std::string_view doctor_story();  // English, a little over 600 tokens of a common vocabulary

struct SpellingText {
  const char* what;
  std::string_view text;
};
std::span<const SpellingText> spelling_texts();  // what tokenizers stumble over

}  // namespace lamina
