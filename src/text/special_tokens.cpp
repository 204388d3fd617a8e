// SPDX-License-Identifier: Apache-2.0
#include "text/special_tokens.h"

namespace lamina {
namespace {

std::uint64_t edge(std::uint32_t node, char c) { return std::uint64_t{node} << 8 | static_cast<std::uint8_t>(c); }

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, std::optional<Token> unk, bool with_space_runs) {
  for (Token token = 0; token < vocabulary.size(); ++token) {
    const TokenType type = vocabulary.type(token);
    const bool user_defined = type == TokenType::kUserDefined;
    const bool control = type == TokenType::kControl || (type == TokenType::kUnknown && token == unk);
    const std::string_view text = vocabulary.piece(token);
    const bool space_run = user_defined && text.find_first_not_of(' ') == std::string_view::npos;
    if ((user_defined || control) && (with_space_runs || !space_run)) add(text, token, user_defined);
  }
}

void SpecialTokens::add(std::string_view text, Token token, bool user_defined) {
  if (text.empty()) return;
  starts_[static_cast<std::uint8_t>(text[0])] = true;
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto [entry, added] = children_.try_emplace(edge(node, c), static_cast<std::uint32_t>(nodes_.size()));
    if (added) nodes_.emplace_back();
    node = entry->second;
  }
  if (nodes_[node].token == kNoToken) nodes_[node] = {token, user_defined};
}

std::optional<std::uint32_t> SpecialTokens::child(std::uint32_t node, char c) const {
  const auto found = children_.find(edge(node, c));
  return found == children_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<SpecialTokens::Found> SpecialTokens::next(std::string_view text, std::size_t from, Match match) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<std::uint8_t>(text[begin])]) continue;
    std::optional<Found> longest;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      const auto below = child(node, text[at]);
      if (!below) break;
      node = *below;
      const Node& reached = nodes_[node];
      const bool wanted = reached.token != kNoToken && (reached.user_defined || match == Match::kControlToo);
      if (wanted) longest = Found{begin, at + 1, reached.token};
    }
    if (longest) return longest;
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
