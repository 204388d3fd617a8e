// SPDX-License-Identifier: Apache-2.0
#include "html.h"

#include <fmt/format.h>

#include <cassert>

#include "report_files.h"

namespace lamina {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string filled(std::string_view pattern, const std::map<std::string, std::string, std::less<>>& values) {
  std::string out;
  while (true) {
    const std::size_t open = pattern.find("{{");
    out += pattern.substr(0, open);
    if (open == std::string_view::npos) return out;
    const std::size_t close = pattern.find("}}", open);
    assert(close != std::string_view::npos);
    out += values.find(pattern.substr(open + 2, close - open - 2))->second;
    pattern.remove_prefix(close + 2);
  }
}

std::string html_page(std::string_view title, std::string_view style, std::string_view body) {
  return filled(
      page_html(),
      {{"title", escaped(title)}, {"style", fmt::format("\n{}{}", base_css(), style)}, {"body", std::string(body)}});
}

}  // namespace lamina
