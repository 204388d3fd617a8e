// SPDX-License-Identifier: Apache-2.0
// What one encode call keeps between words: merge buffers, and the tokens of words it has seen, since text repeats
// them.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/merge.h"
#include "text/vocabulary.h"

namespace lamina {

class WordCache {
 public:
  MergeBuffers merge;

  // Appends the tokens of `word`, from memory or by `encode(word, out)`.
  template <class Encode>
  void append(std::string_view word, std::vector<Token>& out, const Encode& encode) {
    constexpr std::size_t kLongest = 32;  // longer words seldom come back
    if (word.size() > kLongest) return encode(word, out);
    if (const auto found = words_.find(word); found != words_.end()) {
      const auto first = tokens_.begin() + found->second.begin;
      out.insert(out.end(), first, first + found->second.count);
      return;
    }
    const std::size_t before = out.size();
    encode(word, out);
    const Range range{static_cast<std::uint32_t>(tokens_.size()), static_cast<std::uint32_t>(out.size() - before)};
    tokens_.insert(tokens_.end(), out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
    words_.emplace(word, range);
  }

 private:
  struct Range {
    std::uint32_t begin, count;
  };
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, Range, Hash, std::equal_to<>> words_;
  std::vector<Token> tokens_;
};

}  // namespace lamina
