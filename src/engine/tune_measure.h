// SPDX-License-Identifier: Apache-2.0
// The windows of a text that `lamina tune` measures on, and what a spec did on them.
#pragma once
#include <cstddef>
#include <optional>
#include <vector>

#include "engine/score.h"

namespace lamina {

struct TuneText {
  std::vector<std::vector<Token>> selection, held_out;  // [window][token]
  std::size_t prompt = 0;  // of each window; its other tokens are fed one by one and scored
};
struct TuneSizes {
  std::size_t prompt = 1024, scored = 64;   // tokens of a window
  std::size_t selection = 4, held_out = 8;  // windows
};
// Windows that are spread over the text, no token in two of them; held-out ones lie between the others. A `bos`
// replaces each one's first token. Fewer windows where the text is short, in proportion, but two of each: Error if it
// has not so many tokens.
TuneText cut_tune_text(const std::vector<Token>& text, const TuneSizes& sizes, std::optional<Token> bos);

// A spec's on some windows, [window]. A KL that is not finite is infinite.
struct Figures {
  std::vector<double> kl{}, top1{};  // means over the scored tokens
  std::vector<double> kept{}, bytes{};

  void add(const Score& window);
};

}  // namespace lamina
