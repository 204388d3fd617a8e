// SPDX-License-Identifier: Apache-2.0
// Python's two ways to format a string: "%s" % x and "{}".format(x).
#pragma once
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace lamina::jinja {

Value format_percent(const Value& format, const Value& args);  // args: one value, a tuple or a dict
// Fields {}, {0}, {name}, with !s and !r; attributes and format specifications are refused.
std::string format_braces(std::string_view format, const Args& args);

}  // namespace lamina::jinja
