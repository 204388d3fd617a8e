// SPDX-License-Identifier: Apache-2.0
#include "kv/per_layer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

// "4-29" and "4".
std::pair<int, int> parse_range(const Term& term, const std::string& text, int layers) {
  const std::size_t dash = std::min(text.find('-'), text.size());
  const auto layer = [&](std::string_view number) {
    return parse_integer(fmt::format("a layer of {}", term.name), number, 0, layers - 1);
  };
  const int first = layer(std::string_view(text).substr(0, dash));
  const int last = dash == text.size() ? first : layer(std::string_view(text).substr(dash + 1));
  require(first <= last, "{} names the layers {}, expected the lower one first", term.name, text);
  return {first, last};
}

}  // namespace

std::vector<std::string> parse_per_layer(const Term& term, int layers) {
  require(!term.arguments.empty(), "{} has no arguments, expected layers such as {}(0-3=…,4=…)", term.name, term.name);
  std::vector<std::string> values(static_cast<std::size_t>(layers));
  for (const Argument& argument : term.arguments) {
    require(!argument.key.empty(), "{} has \"{}\", expected layers before it such as 0-3={}", term.name, argument.value,
            argument.value);
    const auto [first, last] = parse_range(term, argument.key, layers);
    for (int layer = first; layer <= last; ++layer) {
      std::string& value = values[static_cast<std::size_t>(layer)];
      require(value.empty(), "{} names layer {} twice", term.name, layer);
      value = argument.value;
    }
  }
  return values;
}

std::string print_per_layer(std::string_view name, const std::vector<std::string>& values) {
  std::vector<std::string> ranges;
  for (std::size_t first = 0, end = 0; first < values.size(); first = end) {
    while (end < values.size() && values[end] == values[first]) ++end;
    if (values[first].empty()) continue;
    ranges.push_back(end == first + 1 ? fmt::format("{}={}", first, values[first])
                                      : fmt::format("{}-{}={}", first, end - 1, values[first]));
  }
  return print_term(name, ranges);
}

}  // namespace lamina
