// SPDX-License-Identifier: Apache-2.0
#include "engine/calibration.h"

#include <algorithm>

#include "base/error.h"

namespace lamina {

std::vector<std::vector<Token>> cut_sentences(std::string_view text, const std::string& file, int sentences, int tokens,
                                              const std::function<std::vector<Token>(std::string_view)>& encode) {
  std::vector<std::vector<Token>> cut;
  for (std::size_t begin = 0; begin < text.size() && std::ssize(cut) < sentences;) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    std::vector<Token> sentence = encode(line);
    if (std::ssize(sentence) < tokens) continue;
    sentence.resize(static_cast<std::size_t>(tokens));
    cut.push_back(std::move(sentence));
  }
  require(std::ssize(cut) == sentences, "{}: {} lines have {} tokens or more, expected {}", file, cut.size(), tokens,
          sentences);
  return cut;
}

}  // namespace lamina
