// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/unescape.h"

#include <charconv>

#include "text/jinja/syntax_error.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

// Reads up to `most` digits of the base; at moves past them.
std::uint32_t read_digits(std::string_view literal, std::size_t& at, std::size_t most, int base, std::size_t& count) {
  std::uint32_t code = 0;
  const std::string_view digits = literal.substr(at, most);
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
  count = status == std::errc{} ? static_cast<std::size_t>(end - digits.data()) : 0;
  at += count;
  return code;
}

void append_hexadecimal(std::string& out, std::string_view literal, std::size_t& at, std::size_t digits, int line) {
  std::size_t count = 0;
  const std::uint32_t code = read_digits(literal, at, digits, 16, count);
  if (count != digits) fail_at(line, "a truncated escape in a string, expected {} hexadecimal digits", digits);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (code > 0x10FFFF || surrogate) fail_at(line, "the escape {:x} in a string is no Unicode character", code);
  append_utf8(out, code);
}

// A one-letter escape's character, or 0.
char simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return 0;
  }
}

}  // namespace

std::string unescape(std::string_view literal, int line) {
  std::string out;
  for (std::size_t at = 0; at < literal.size();) {
    const char c = literal[at++];
    if (c != '\\' || at == literal.size()) {
      out += c;
      continue;
    }
    const char kind = literal[at++];
    if (const char plain = simple_escape(kind)) {
      out += plain;
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      append_hexadecimal(out, literal, at, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, line);
    } else if (kind >= '0' && kind <= '7') {
      std::size_t count = 0;
      append_utf8(out, read_digits(literal, --at, 3, 8, count));
    } else if (kind == 'N') {
      fail_at(line, "unsupported escape \"\\N\" in a string");
    } else if (kind != '\n') {
      out += '\\';
      out += kind;
    }
  }
  return out;
}

}  // namespace lamina::jinja
