// SPDX-License-Identifier: Apache-2.0
// Where a cache's bytes are, and where the dense cache's went: a bar for each spec.
#pragma once
#include <string>
#include <vector>

#include "compare_report.h"

namespace lamina {

// As long as the dense cache's: what is held, and what each axis has saved.
std::string axis_bars(const Report& report);
// What is held: rows and what stands beside them.
std::string held_bars(const Report& report);
// The bars' figures.
std::vector<Column> byte_columns();

}  // namespace lamina
