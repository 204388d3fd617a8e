// SPDX-License-Identifier: Apache-2.0
// Tokens with a place in them: what both halves of the parser read from.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/syntax_error.h"

namespace lamina::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  Token next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }

  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_operator(std::string_view text) const { return is(TokenKind::Operator) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenKind::Name) && current().text == text; }

  bool skip_operator(std::string_view text) { return is_operator(text) && (next(), true); }
  bool skip_name(std::string_view text) { return is_name(text) && (next(), true); }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) unexpected(text);
  }
  void expect_name(std::string_view text) {
    if (!skip_name(text)) unexpected(text);
  }
  std::string expect_any_name() {
    if (!is(TokenKind::Name)) unexpected("a name");
    return next().text;
  }
  void expect(TokenKind kind, std::string_view shown) {
    if (!is(kind)) unexpected(shown);
    next();
  }

  [[noreturn]] void unexpected(std::string_view wanted) const {
    fail_at(line(), "unexpected {}, expected {}", describe(), wanted);
  }

  std::string describe() const {
    switch (current().kind) {
      case TokenKind::End:
        return "end of template";
      case TokenKind::BlockEnd:
        return "end of tag";
      case TokenKind::VariableEnd:
        return "end of expression";
      case TokenKind::Data:
      case TokenKind::BlockBegin:
      case TokenKind::VariableBegin:
        return "text";
      default:
        return '"' + current().text.substr(0, 40) + '"';
    }
  }

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

}  // namespace lamina::jinja
