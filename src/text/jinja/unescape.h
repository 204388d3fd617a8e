// SPDX-License-Identifier: Apache-2.0
// The escapes of a Python string literal.
#pragma once
#include <string>
#include <string_view>

namespace lamina::jinja {

// The literal without its quotes; an unknown escape keeps its backslash. Throws Error with the line.
std::string unescape(std::string_view literal, int line);

}  // namespace lamina::jinja
