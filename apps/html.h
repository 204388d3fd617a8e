// SPDX-License-Identifier: Apache-2.0
// Pages that need nothing else: texts made safe, templates filled in.
#pragma once
#include <map>
#include <string>
#include <string_view>

namespace lamina {

// For the content of elements and for attributes in double quotes.
std::string escaped(std::string_view text);

// The template with each {{name}} replaced, all of which must be known; what comes in is not looked at again.
std::string filled(std::string_view pattern, const std::map<std::string, std::string, std::less<>>& values);

// A whole page with the common style and this one. `body` is HTML.
std::string html_page(std::string_view title, std::string_view style, std::string_view body);

}  // namespace lamina
