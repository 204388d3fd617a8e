// SPDX-License-Identifier: Apache-2.0
// Parses a template. The grammar and precedences are Jinja's own, which differ from Python's in places: ~ binds
// tighter than +, ** groups from the left, and a minus before a literal binds tighter than **.
#pragma once
#include <string_view>

#include "text/jinja/ast.h"

namespace lamina::jinja {

Body parse(std::string_view source);  // throws Error with the line

}  // namespace lamina::jinja
