// SPDX-License-Identifier: Apache-2.0
// What each token of a vocabulary is, by the text that it decodes to: for token policies that go by it (FastGen).
#pragma once
#include <vector>

#include "kv/types.h"
#include "text/tokenizer.h"

namespace lamina {

// [token] Special: control tokens. Punctuation: at least one ASCII punctuation character and else white space. Blank:
// white space alone, new lines included.
std::vector<TokenClass> token_classes(const Tokenizer& tokenizer);

}  // namespace lamina
