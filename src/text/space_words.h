// SPDX-License-Identifier: Apache-2.0
// Where a text may be cut before a space without a change of its tokens: between a byte and a space that no merge
// joins. Words may then be encoded one by one, from memory where they come back.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

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

}  // namespace lamina
