// SPDX-License-Identifier: Apache-2.0
// JSON of files that nobody vouches for.
#pragma once
#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace lamina {

// Error, naming the file, for a text that is not one JSON value, is nested deeper than 32, or has a key twice in an
// object: the library would keep one of the values, and two sources for one thing must not pass.
nlohmann::json parse_json(std::string_view text, std::string_view file);
// The same for a file of at most `most_bytes`.
nlohmann::json read_json(const std::string& path, std::size_t most_bytes);

// A value as errors show it: one short line of ASCII, whatever the file holds.
std::string shown(const nlohmann::json& value);

}  // namespace lamina
