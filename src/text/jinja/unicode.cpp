// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/unicode.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <span>

namespace lamina::jinja {

namespace {

// The length that a lead byte announces, 0 for a byte that cannot lead.
std::size_t announced_bytes(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF5) return 4;
  return 0;
}

// Applies an ICU case mapping; bytes that are not UTF-8 are passed around it.
template <class Map>
std::string map_case(std::string_view text, Map map) {
  std::string out;
  out.reserve(text.size());
  std::size_t valid_from = 0;
  const auto flush = [&](std::size_t end) {
    if (end == valid_from) return;
    const auto part = text.substr(valid_from, end - valid_from);
    auto mapped = icu::UnicodeString::fromUTF8(icu::StringPiece(part.data(), static_cast<int32_t>(part.size())));
    map(mapped);
    mapped.toUTF8String(out);
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = character_bytes(text, at);
    if (code_point(text.substr(at, bytes)) < 0) {
      flush(at);
      out += text[at];
      valid_from = at + bytes;
    }
    at += bytes;
  }
  flush(text.size());
  return out;
}

std::string title_character(std::string_view character) {
  const std::int32_t code = code_point(character);
  if (code < 0) return std::string(character);
  std::string out;
  const auto mapped = static_cast<std::uint32_t>(u_totitle(code));
  // Only the full mapping knows characters that become two, such as the German sharp s.
  if (mapped == static_cast<std::uint32_t>(code) && u_islower(code)) {
    out = upper(character);
    const std::size_t first = character_bytes(out, 0);
    return out.substr(0, first) + lower(std::string_view(out).substr(first));
  }
  append_utf8(out, mapped);
  return out;
}

bool contains_character(const std::string& set, std::string_view character) {
  for (std::size_t at = 0; at < set.size();) {
    const std::size_t bytes = character_bytes(set, at);
    if (std::string_view(set).substr(at, bytes) == character) return true;
    at += bytes;
  }
  return false;
}

bool stripped(const std::string* set, std::string_view character) {
  return set ? contains_character(*set, character) : is_space(character);
}

}  // namespace

std::size_t character_bytes(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t bytes = announced_bytes(byte(at));
  if (bytes <= 1) return 1;
  if (at + bytes > text.size()) return 1;
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 1;
  }
  const unsigned char second = byte(at + 1);
  const bool overlong = (byte(at) == 0xE0 && second < 0xA0) || (byte(at) == 0xF0 && second < 0x90);
  const bool too_large = byte(at) == 0xF4 && second > 0x8F;
  const bool surrogate = byte(at) == 0xED && second > 0x9F;
  return overlong || too_large || surrogate ? 1 : bytes;
}

std::int32_t code_point(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead < 0x80 ? lead : -static_cast<std::int32_t>(lead);
  std::int32_t code = lead & (0xFF >> (character.size() + 1));
  for (char c : character.substr(1)) code = (code << 6) | (static_cast<unsigned char>(c) & 0x3F);
  return code;
}

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text, at)) ++count;
  return count;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = character_bytes(text, at);
    out.push_back(text.substr(at, bytes));
    at += bytes;
  }
  return out;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | (code >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_space(std::string_view character) {
  const std::int32_t code = code_point(character);
  if (code < 0x80) return code == ' ' || (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x1F);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_printable(std::string_view character) {
  const std::int32_t code = code_point(character);
  if (code < 0) return false;
  if (code == ' ') return true;
  switch (u_charType(code)) {
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_SURROGATE:
    case U_PRIVATE_USE_CHAR:
    case U_UNASSIGNED:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
    case U_SPACE_SEPARATOR:
      return false;
    default:
      return true;
  }
}

bool is_in(CharacterClass wanted, std::string_view character) {
  const std::int32_t code = code_point(character);
  if (code < 0) return false;
  const int numeric = u_getIntPropertyValue(code, UCHAR_NUMERIC_TYPE);
  switch (wanted) {
    case CharacterClass::Alphabetic:
      return u_isalpha(code);
    case CharacterClass::Decimal:
      return numeric == U_NT_DECIMAL;
    case CharacterClass::Digit:
      return numeric == U_NT_DECIMAL || numeric == U_NT_DIGIT;
    case CharacterClass::Numeric:
      return numeric != U_NT_NONE;
    case CharacterClass::Upper:
      return u_hasBinaryProperty(code, UCHAR_UPPERCASE);
    case CharacterClass::Lower:
      return u_hasBinaryProperty(code, UCHAR_LOWERCASE);
    case CharacterClass::Cased:
      return u_hasBinaryProperty(code, UCHAR_CASED);
  }
  return false;
}

std::string_view strip_left(std::string_view text, const std::string* set) {
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text, 0);
    if (!stripped(set, text.substr(0, bytes))) break;
    text.remove_prefix(bytes);
  }
  return text;
}

std::string_view strip_right(std::string_view text, const std::string* set) {
  while (!text.empty()) {
    // The last character starts at most four bytes before the end.
    std::size_t start = text.size() - 1;
    for (std::size_t back = 2; back <= std::min<std::size_t>(4, text.size()); ++back) {
      if (character_bytes(text, text.size() - back) == back) start = text.size() - back;
    }
    if (!stripped(set, text.substr(start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string_view strip(std::string_view text, const std::string* set) {
  return strip_right(strip_left(text, set), set);
}

std::string upper(std::string_view text) {
  return map_case(text, [](icu::UnicodeString& s) { s.toUpper(icu::Locale::getRoot()); });
}

std::string lower(std::string_view text) {
  return map_case(text, [](icu::UnicodeString& s) { s.toLower(icu::Locale::getRoot()); });
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const std::size_t first = character_bytes(text, 0);
  return title_character(text.substr(0, first)) + lower(text.substr(first));
}

std::string title(std::string_view text) {
  std::string out;
  bool after_cased = false;
  for (std::string_view character : characters(text)) {
    out += after_cased ? lower(character) : title_character(character);
    after_cased = is_in(CharacterClass::Cased, character);
  }
  return out;
}

}  // namespace lamina::jinja
