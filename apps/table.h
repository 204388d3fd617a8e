// SPDX-License-Identifier: Apache-2.0
// A Markdown table that also reads well as it is.
#pragma once
#include <string>
#include <vector>

namespace lamina {

using TableRow = std::vector<std::string>;
// The first `left` columns are flush left, the others right.
std::string markdown_table(const TableRow& titles, const std::vector<TableRow>& rows, std::size_t left);

}  // namespace lamina
