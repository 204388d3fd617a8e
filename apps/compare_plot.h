// SPDX-License-Identifier: Apache-2.0
// A column of the report against the cache's bytes, as SVG. The program draws it itself, with no charting library: the
// marks are then links that a keyboard reaches and a test finds, prints are sharp, and the page is whole without
// scripts. Debian 12 has Chart.js 3.9 (a canvas: none of that) and D3 3.5 of 2016, 150 KB to draw circles.
#pragma once
#include <string>

#include "compare_report.h"

namespace lamina {

// Empty if no spec has both values.
std::string pareto_plot(const Report& report, const Column& column);

}  // namespace lamina
