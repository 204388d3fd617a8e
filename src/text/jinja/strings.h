// SPDX-License-Identifier: Apache-2.0
// Work on strings that methods and filters share. Results are bounded by kMaxStringBytes and kMaxValueNodes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/unicode.h"

namespace lamina::jinja {

void append_bounded(std::string& out, std::string_view more);

// str.split: separator nullptr splits at runs of white space; most < 0 is without limit.
std::vector<std::string> split_left(std::string_view text, const std::string* separator, std::int64_t most);
std::vector<std::string> split_right(std::string_view text, const std::string* separator, std::int64_t most);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string replace_all(std::string_view text, std::string_view old, std::string_view with, std::int64_t most);
std::string padding(std::string_view fill, std::int64_t width, std::size_t characters);
bool all_cased(std::string_view text, CharacterClass wanted);  // str.isupper, str.islower
std::optional<double> parse_float(std::string_view text);      // as Python's float()
std::optional<std::int64_t> parse_int(std::string_view text, int base);

}  // namespace lamina::jinja
