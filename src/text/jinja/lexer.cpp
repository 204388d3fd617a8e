// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "text/jinja/syntax_error.h"
#include "text/jinja/unescape.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

// Newlines become "\n", and the last one goes.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize(source)), rest_(source_) {}

  std::vector<Token> run() {
    while (!rest_.empty()) lex_data();
    add(TokenKind::End, "");
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(bytes), '\n'));
    if (bytes > 0) line_starting_ = rest_[bytes - 1] == '\n';
    rest_.remove_prefix(bytes);
  }

  static std::size_t space_bytes(std::string_view text) { return text.size() - strip_left(text).size(); }

  // The bytes of a tag's end at the start of text, with the white space that it takes along; 0: it does not end here.
  static std::size_t end_bytes(std::string_view text, std::string_view mark, bool trims_newline) {
    if (text.starts_with('-') && text.substr(1).starts_with(mark)) {
      return 1 + mark.size() + space_bytes(text.substr(1 + mark.size()));
    }
    if (trims_newline && text.starts_with('+') && text.substr(1).starts_with(mark)) return 1 + mark.size();
    if (!text.starts_with(mark)) return 0;
    return mark.size() + (trims_newline && text.substr(mark.size()).starts_with('\n') ? 1 : 0);
  }

  // If a tag {% word %} opens text, the bytes up to where its end mark begins.
  static std::optional<std::size_t> word_tag(std::string_view text, std::string_view word) {
    std::size_t at = 2;
    if (!text.starts_with("{%")) return std::nullopt;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    at += space_bytes(text.substr(at));
    if (!text.substr(at).starts_with(word)) return std::nullopt;
    at += word.size();
    return at + space_bytes(text.substr(at));
  }

  // Text before a tag, stripped as the tag's sign and kind ask.
  std::string_view before_tag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') return strip_right(text);
    if (sign == '+' || variable) return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line_start = start > 0 || line_starting_;
    return at_line_start && strip_left(text.substr(start)).empty() ? text.substr(0, start) : text;
  }

  void lex_data() {
    std::size_t open = rest_.find('{');
    while (open != std::string_view::npos &&
           (open + 1 == rest_.size() || std::string_view("%{#").find(rest_[open + 1]) == std::string_view::npos)) {
      open = rest_.find('{', open + 1);
    }
    const std::string_view text = rest_.substr(0, open);
    if (open == std::string_view::npos) {
      add(TokenKind::Data, std::string(text));
      return advance(text.size());
    }
    const char kind = rest_[open + 1];
    const char next = open + 2 < rest_.size() ? rest_[open + 2] : ' ';
    const bool has_sign = next == '-' || next == '+';
    const std::string_view kept = before_tag(text, has_sign ? next : ' ', kind == '{');
    if (!kept.empty()) add(TokenKind::Data, std::string(kept));
    advance(open);
    if (kind == '%' && lex_raw()) return;
    advance(has_sign ? 3 : 2);
    if (kind == '#') return skip_comment();
    lex_tag(kind == '{');
  }

  bool lex_raw() {
    const auto begin = word_tag(rest_, "raw");
    if (!begin) return false;
    const std::string_view from_end = rest_.substr(*begin);
    const std::size_t end = from_end.starts_with('+') ? 0 : end_bytes(from_end, "%}", false);
    if (end == 0) return false;
    advance(*begin + end);
    for (std::size_t at = rest_.find("{%"); at != std::string_view::npos; at = rest_.find("{%", at + 1)) {
      const auto inner = word_tag(rest_.substr(at), "endraw");
      const std::size_t closing = inner ? end_bytes(rest_.substr(at + *inner), "%}", true) : 0;
      if (closing == 0) continue;
      const std::string_view kept = before_tag(rest_.substr(0, at), rest_[at + 2], false);
      if (!kept.empty()) add(TokenKind::Data, std::string(kept));
      advance(at + *inner + closing);
      return true;
    }
    fail_at(line_, "missing end of raw block");
  }

  void skip_comment() {
    const std::size_t end = rest_.find("#}");
    if (end == std::string_view::npos) fail_at(line_, "missing end of comment");
    const bool sign = end > 0 && (rest_[end - 1] == '-' || rest_[end - 1] == '+');
    const std::size_t mark = end - (sign ? 1 : 0);
    advance(mark + end_bytes(rest_.substr(mark), "#}", true));
  }

  void lex_tag(bool variable) {
    add(variable ? TokenKind::VariableBegin : TokenKind::BlockBegin, "");
    std::string open_brackets;  // what closes each bracket that is open: inside them a tag does not end
    while (true) {
      if (rest_.empty()) fail_at(line_, "unexpected end of template inside a tag");
      const std::size_t end = open_brackets.empty() ? end_bytes(rest_, variable ? "}}" : "%}", !variable) : 0;
      if (end > 0) {
        add(variable ? TokenKind::VariableEnd : TokenKind::BlockEnd, "");
        return advance(end);
      }
      const std::size_t blanks = space_bytes(rest_);
      if (blanks > 0) {
        advance(blanks);
      } else {
        lex_token(open_brackets);
      }
    }
  }

  void lex_token(std::string& open_brackets) {
    const char c = rest_[0];
    if (is_digit(c)) return lex_number();
    if (starts_name(c)) {
      std::size_t end = 1;
      while (end < rest_.size() && (starts_name(rest_[end]) || is_digit(rest_[end]))) ++end;
      return take(TokenKind::Name, end);
    }
    if (c == '"' || c == '\'') return lex_string(c);
    lex_operator(open_brackets);
  }

  void take(TokenKind kind, std::size_t bytes) {
    add(kind, std::string(rest_.substr(0, bytes)));
    advance(bytes);
  }

  void lex_string(char quote) {
    std::size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) fail_at(line_, "a string is not closed");
    add(TokenKind::String, unescape(rest_.substr(1, end - 1), line_));
    advance(end + 1);
  }

  // Digits with single underscores between them, from `at`.
  std::size_t digits_end(std::size_t at) const {
    const auto digit = [&](std::size_t i) { return i < rest_.size() && is_digit(rest_[i]); };
    while (digit(at) || (at < rest_.size() && rest_[at] == '_' && digit(at + 1))) ++at;
    return at;
  }

  void lex_number() {
    const std::size_t whole = digits_end(0);
    const bool after_dot = !tokens_.empty() && tokens_.back().kind == TokenKind::Operator && tokens_.back().text == ".";
    std::size_t end = whole;
    const auto digit = [&](std::size_t i) { return i < rest_.size() && is_digit(rest_[i]); };
    if (!after_dot) {
      if (end < rest_.size() && rest_[end] == '.' && digit(end + 1)) end = digits_end(end + 1);
      if (end < rest_.size() && (rest_[end] == 'e' || rest_[end] == 'E')) {
        const bool sign = end + 1 < rest_.size() && (rest_[end + 1] == '+' || rest_[end + 1] == '-');
        if (digit(end + 1 + (sign ? 1 : 0))) end = digits_end(end + 1 + (sign ? 1 : 0));
      }
    }
    if (end > whole) return take(TokenKind::Float, end);
    if (rest_[0] == '0' && rest_.size() > 1 && std::string_view("xXoObB").find(rest_[1]) != std::string_view::npos) {
      const auto hexadecimal = [](char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f') || c == '_'; };
      end = 2;
      while (end < rest_.size() && hexadecimal(rest_[end])) ++end;
    }
    take(TokenKind::Integer, end);
  }

  void lex_operator(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 6> kTwo = {"//", "**", "==", "!=", ">=", "<="};
    const char c = rest_[0];
    if (std::find(kTwo.begin(), kTwo.end(), rest_.substr(0, 2)) != kTwo.end()) return take(TokenKind::Operator, 2);
    const std::size_t bytes = character_bytes(rest_, 0);
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      fail_at(line_, "unexpected character \"{}\"", rest_.substr(0, bytes));
    }
    if (c == '(' || c == '[' || c == '{') open_brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty()) fail_at(line_, "unexpected \"{}\"", std::string(1, c));
      if (open_brackets.back() != c) {
        fail_at(line_, "unexpected \"{}\", expected \"{}\"", std::string(1, c), std::string(1, open_brackets.back()));
      }
      open_brackets.pop_back();
    }
    take(TokenKind::Operator, 1);
  }

  std::string source_;
  std::string_view rest_;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace lamina::jinja
