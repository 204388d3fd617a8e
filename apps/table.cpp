// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <fmt/format.h>

#include <algorithm>

namespace lamina {

std::string markdown_table(const TableRow& titles, const std::vector<TableRow>& rows, std::size_t left) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < titles.size(); ++i) {
    widths.push_back(titles[i].size());
    for (const TableRow& row : rows) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  const auto add = [&](const TableRow& row) {
    for (std::size_t i = 0; i < row.size(); ++i)
      text += fmt::format(fmt::runtime(i < left ? "| {:<{}} " : "| {:>{}} "), row[i], widths[i]);
    text += "|\n";
  };
  TableRow rules;
  for (std::size_t i = 0; i < widths.size(); ++i)
    rules.push_back(std::string(widths[i] - 1, '-') + (i < left ? "-" : ":"));
  add(titles);
  add(rules);
  for (const TableRow& row : rows) add(row);
  return text;
}

}  // namespace lamina
