// SPDX-License-Identifier: Apache-2.0
#include "model/token_classes.h"

#include <algorithm>
#include <string_view>

namespace lamina {
namespace {

bool is_blank(char c) { return c == ' ' || ('\t' <= c && c <= '\r'); }
bool is_punctuation(char c) {
  return '!' <= c && c <= '~' && !(('0' <= c && c <= '9') || ('A' <= c && c <= 'Z') || ('a' <= c && c <= 'z'));
}

}  // namespace

std::vector<TokenClass> token_classes(const Tokenizer& tokenizer) {
  std::vector<TokenClass> classes(static_cast<std::size_t>(tokenizer.vocab_size()), TokenClass::kOther);
  for (Token token = 0; token < tokenizer.vocab_size(); ++token) {
    TokenClass& kind = classes[static_cast<std::size_t>(token)];
    const std::string_view text = tokenizer.piece(token);
    if (tokenizer.type(token) == TokenType::kControl) {
      kind = TokenClass::kSpecial;
    } else if (!text.empty() && std::ranges::all_of(text, [](char c) { return is_blank(c) || is_punctuation(c); })) {
      kind = std::ranges::any_of(text, is_punctuation) ? TokenClass::kPunctuation : TokenClass::kBlank;
    }
  }
  return classes;
}

}  // namespace lamina
