// SPDX-License-Identifier: Apache-2.0
// Calibration text: sentences of one length, as KVSharer's search wants them.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/forward.h"

namespace lamina {

// The first `sentences` lines of `text` that have at least `tokens` tokens, cut there. Error with `file` as the text's
// name if there are fewer.
std::vector<std::vector<Token>> cut_sentences(std::string_view text, const std::string& file, int sentences, int tokens,
                                              const std::function<std::vector<Token>(std::string_view)>& encode);

}  // namespace lamina
