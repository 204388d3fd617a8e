// SPDX-License-Identifier: Apache-2.0
// UTF-8 text seen as Python's str: code points, white space, case. A byte that is not valid UTF-8 counts as one
// character and passes through unchanged.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::jinja {

// Bytes of the character that starts at text[at]; at < text.size().
std::size_t character_bytes(std::string_view text, std::size_t at);
// Its code point; an invalid byte gives the negative of its value.
std::int32_t code_point(std::string_view character);
std::size_t count_characters(std::string_view text);
std::vector<std::string_view> characters(std::string_view text);
void append_utf8(std::string& out, std::uint32_t code_point);

bool is_space(std::string_view character);      // str.isspace
bool is_printable(std::string_view character);  // str.isprintable
enum class CharacterClass { Alphabetic, Decimal, Digit, Numeric, Upper, Lower, Cased };
bool is_in(CharacterClass wanted, std::string_view character);

// A strip set is the characters to remove; nullptr removes white space.
std::string_view strip_left(std::string_view text, const std::string* set = nullptr);
std::string_view strip_right(std::string_view text, const std::string* set = nullptr);
std::string_view strip(std::string_view text, const std::string* set = nullptr);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);  // str.title: a capital after every uncased character

}  // namespace lamina::jinja
