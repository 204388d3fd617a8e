// SPDX-License-Identifier: Apache-2.0
// UTF-8 and the Unicode classes that the pre-tokenizers' regular expressions name (tables: ICU).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace lamina {

enum class Utf8Status : std::uint8_t {
  kValid,
  kInvalid,     // no continuation can repair it
  kIncomplete,  // the text ends inside a sequence that is right so far
};

struct Utf8Char {
  char32_t code = 0xFFFD;   // U+FFFD unless valid
  std::uint32_t bytes = 1;  // bytes consumed; of an ill-formed sequence its longest well-formed prefix, at least 1
  Utf8Status status = Utf8Status::kInvalid;
};

// Decodes the character that starts at text[at]; at < text.size().
Utf8Char decode_utf8(std::string_view text, std::size_t at);
void append_utf8(std::string& out, char32_t code);

// Bits of a character's class. Lm and Lo are both kUpperish and kLowerish, as in tekken's expression.
enum CharClass : std::uint8_t {
  kLetter = 1,     // \p{L}
  kNumber = 2,     // \p{N}
  kSpace = 4,      // \s
  kNewline = 8,    // \r or \n
  kUpperish = 16,  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  kLowerish = 32,  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
};
std::uint8_t char_class(char32_t code);

// Normalization form C; bytes that are not UTF-8 stay as they are.
std::string to_nfc(std::string_view text);

}  // namespace lamina
