// SPDX-License-Identifier: Apache-2.0
#include "text/special_tokens.h"

#include "text/unicode.h"

namespace lamina {
namespace {

std::uint64_t edge(std::uint32_t node, char c) { return std::uint64_t{node} << 8 | static_cast<std::uint8_t>(c); }

// The begin of the run of white space that ends at `end`, not before `from`.
std::size_t space_before(std::string_view text, std::size_t from, std::size_t end) {
  for (std::size_t begin = end; begin > from;) {
    --begin;
    const bool inside = (static_cast<std::uint8_t>(text[begin]) & 0xC0) == 0x80;
    if (inside && end - begin < 4) continue;  // a character has at most 4 bytes
    const Utf8Char c = decode_utf8(text, begin);
    const bool is_space =
        c.status == Utf8Status::kValid && begin + c.bytes == end && (char_class(c.code) & kSpace) != 0;
    if (!is_space) break;
    end = begin;
  }
  return end;
}

// The end of the run of white space that begins at `begin`.
std::size_t space_behind(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const Utf8Char c = decode_utf8(text, begin);
    if (c.status != Utf8Status::kValid || (char_class(c.code) & kSpace) == 0) break;
    begin += c.bytes;
  }
  return begin;
}

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, std::optional<Token> unk, bool with_space_runs) {
  for (Token token = 0; token < vocabulary.size(); ++token) {
    const TokenType type = vocabulary.type(token);
    const bool user_defined = type == TokenType::kUserDefined;
    const bool control = type == TokenType::kControl || (type == TokenType::kUnknown && token == unk);
    const std::string_view text = vocabulary.piece(token);
    const bool space_run = user_defined && text.find_first_not_of(' ') == std::string_view::npos;
    if ((user_defined || control) && (with_space_runs || !space_run)) add({text, token, user_defined});
  }
}

SpecialTokens::SpecialTokens(std::span<const AddedToken> added) {
  for (const AddedToken& token : added) add(token);
}

void SpecialTokens::add(const AddedToken& added) {
  if (added.text.empty()) return;
  starts_[static_cast<std::uint8_t>(added.text[0])] = true;
  std::uint32_t node = 0;
  for (const char c : added.text) {
    const auto [entry, is_new] = children_.try_emplace(edge(node, c), static_cast<std::uint32_t>(nodes_.size()));
    if (is_new) nodes_.emplace_back();
    node = entry->second;
  }
  if (nodes_[node].token != kNoToken) return;
  nodes_[node] = {added.token, added.user_defined, added.takes_left, added.takes_right};
}

std::optional<std::uint32_t> SpecialTokens::child(std::uint32_t node, char c) const {
  const auto found = children_.find(edge(node, c));
  return found == children_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<SpecialTokens::Found> SpecialTokens::next(std::string_view text, std::size_t from, Match match) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<std::uint8_t>(text[begin])]) continue;
    const Node* longest = nullptr;
    std::size_t end = begin;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      const auto below = child(node, text[at]);
      if (!below) break;
      node = *below;
      const Node& reached = nodes_[node];
      const bool wanted = reached.token != kNoToken && (reached.user_defined || match == Match::kControlToo);
      if (!wanted) continue;
      longest = &reached;
      end = at + 1;
    }
    if (longest == nullptr) continue;
    const std::size_t stripped = longest->takes_left ? space_before(text, from, begin) : begin;
    return Found{stripped, longest->takes_right ? space_behind(text, end) : end, longest->token};
  }
  return std::nullopt;
}

std::optional<Token> SpecialTokens::find(std::string_view text) const {
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto below = child(node, c);
    if (!below) return std::nullopt;
    node = *below;
  }
  return nodes_[node].token == kNoToken ? std::nullopt : std::optional(nodes_[node].token);
}

}  // namespace lamina
