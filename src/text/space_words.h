// SPDX-License-Identifier: Apache-2.0
// Where a text may be cut before a space without a change of its tokens: between a byte and a space that no merge
// joins. Words may then be encoded one by one, from memory where they come back.
#pragma once
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace lamina {

class SpaceWords {
 public:
  void join(char before_space) { joined_[static_cast<std::uint8_t>(before_space)] = true; }
  void join_all() { joined_.fill(true); }

  // The end of the word that begins at `begin`.
  std::size_t end(std::string_view text, std::size_t begin) const {
    for (std::size_t at = text.find(' ', begin + 1); at != std::string_view::npos; at = text.find(' ', at + 1)) {
      if (!joined_[static_cast<std::uint8_t>(text[at - 1])]) return at;
    }
    return text.size();
  }

 private:
  std::array<bool, 256> joined_{};  // bytes that stay with a space behind them
};

// Appends the tokens of all words of a text in which U+2581 counts as a space: of each by encode(word, out), or from
// memory.
template <class Encode>
void encode_words(std::string_view text, const SpaceWords& words, WordCache& cache, std::vector<Token>& out,
                  const Encode& encode) {
  require(text.size() < std::numeric_limits<std::int32_t>::max(), "text of {} bytes, at most 2 GiB", text.size());
  std::string spaced;
  spaced.reserve(text.size());
  append_metaspace(spaced, text);
  const std::string_view view = spaced;
  for (std::size_t begin = 0; begin < view.size();) {
    const std::size_t end = words.end(view, begin);
    cache.append(view.substr(begin, end - begin), out, encode);
    begin = end;
  }
}

}  // namespace lamina
