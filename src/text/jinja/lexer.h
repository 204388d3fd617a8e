// SPDX-License-Identifier: Apache-2.0
// A template's source cut into tokens, with Jinja's rules for white space (trim_blocks and lstrip_blocks on, as chat
// templates expect): a newline after a tag goes, blanks before a tag at a line's start go, "-" strips, "+" keeps.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace lamina::jinja {

enum class TokenKind {
  Data,
  VariableBegin,
  VariableEnd,
  BlockBegin,
  BlockEnd,
  Name,
  String,
  Integer,
  Float,
  Operator,
  End
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string: its value, without quotes and escapes
  int line;
};

std::vector<Token> tokenize(std::string_view source);  // throws Error with the line

}  // namespace lamina::jinja
