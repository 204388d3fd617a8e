// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include "base/error.h"

namespace lamina {
namespace {

// Well-formed sequences by their first byte (Unicode standard, table 3-7): length and the range of the second byte.
struct LeadByte {
  std::uint32_t bytes;  // 0: never a first byte
  std::uint8_t low, high;
};

LeadByte lead_byte(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// The normalised form of text, which holds valid UTF-8 only.
void append_nfc(std::string& out, std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  require(U_SUCCESS(status), "ICU: no NFC data ({})", u_errorName(status));
  icu::StringByteSink<std::string> sink(&out);
  nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, status);
  require(U_SUCCESS(status), "ICU: NFC of {} bytes failed ({})", text.size(), u_errorName(status));
}

}  // namespace

Utf8Char decode_utf8(std::string_view text, std::size_t at) {
  const auto first = static_cast<std::uint8_t>(text[at]);
  if (first < 0x80) return {first, 1, Utf8Status::kValid};
  const LeadByte lead = lead_byte(first);
  if (lead.bytes == 0) return {};
  char32_t code = first & (0xFF >> (lead.bytes + 1));
  for (std::uint32_t i = 1; i < lead.bytes; ++i) {
    if (at + i == text.size()) return {0xFFFD, i, Utf8Status::kIncomplete};
    const auto byte = static_cast<std::uint8_t>(text[at + i]);
    const std::uint8_t low = i == 1 ? lead.low : 0x80;
    const std::uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {0xFFFD, i, Utf8Status::kInvalid};
    code = code << 6 | (byte & 0x3F);
  }
  return {code, lead.bytes, Utf8Status::kValid};
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::uint8_t char_class(char32_t code) {
  if (code == '\r' || code == '\n') return kSpace | kNewline;
  switch (u_charType(static_cast<UChar32>(code))) {
    case U_UPPERCASE_LETTER:
    case U_TITLECASE_LETTER:
      return kLetter | kUpperish;
    case U_LOWERCASE_LETTER:
      return kLetter | kLowerish;
    case U_MODIFIER_LETTER:
    case U_OTHER_LETTER:
      return kLetter | kUpperish | kLowerish;
    case U_NON_SPACING_MARK:
    case U_ENCLOSING_MARK:
    case U_COMBINING_SPACING_MARK:
      return kUpperish | kLowerish;
    case U_DECIMAL_DIGIT_NUMBER:
    case U_LETTER_NUMBER:
    case U_OTHER_NUMBER:
      return kNumber;
    default:
      return u_isUWhiteSpace(static_cast<UChar32>(code)) ? kSpace : 0;
  }
}

std::string to_nfc(std::string_view text) {
  constexpr std::size_t kMostBytes = 1U << 30;  // ICU counts in int32
  require(text.size() <= kMostBytes, "text of {} bytes, at most {} can be normalised", text.size(), kMostBytes);
  std::string out;
  std::size_t valid_from = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.status != Utf8Status::kValid) {
      append_nfc(out, text.substr(valid_from, at - valid_from));
      out += text.substr(at, c.bytes);
      valid_from = at + c.bytes;
    }
    at += c.bytes;
  }
  append_nfc(out, text.substr(valid_from));
  return out;
}

}  // namespace lamina
