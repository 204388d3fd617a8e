// SPDX-License-Identifier: Apache-2.0
// Finds the tokens that are matched in the text before anything else: user-defined tokens always, control tokens by
// choice. The leftmost match wins, of several there the longest.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace lamina {

enum class Match : std::uint8_t { kUserDefined, kControlToo };

// A token as tokenizer.json adds it to a vocabulary.
struct AddedToken {
  std::string_view text;  // as it is matched
  Token token = kNoToken;
  bool user_defined = false;                     // else a control token
  bool takes_left = false, takes_right = false;  // the white space on that side belongs to the match
  bool late = false;                             // matched in what the other tokens leave ("normalized")
};

class SpecialTokens {
 public:
  SpecialTokens() = default;
  // Of the tokens of unknown type only `unk` is special. User-defined runs of spaces are Spm's where it says so.
  SpecialTokens(const Vocabulary& vocabulary, std::optional<Token> unk, bool with_space_runs);

  explicit SpecialTokens(std::span<const AddedToken> added);

  struct Found {
    std::size_t begin, end;
    Token token;
  };
  std::optional<Found> next(std::string_view text, std::size_t from, Match match) const;
  // The special token spelled exactly so.
  std::optional<Token> find(std::string_view text) const;

 private:
  struct Node {
    Token token = kNoToken;
    bool user_defined = false, takes_left = false, takes_right = false;
  };
  void add(const AddedToken& added);
  std::optional<std::uint32_t> child(std::uint32_t node, char c) const;

  std::vector<Node> nodes_{1};                                 // a trie; 0 is the root
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // node << 8 | byte -> node
  std::array<bool, 256> starts_{};                             // bytes that begin a special token
};

}  // namespace lamina
