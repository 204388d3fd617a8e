// SPDX-License-Identifier: Apache-2.0
// Heat maps of the report: grids of shades or of kinds, as SVG.
#pragma once
#include <string>

#include "compare_report.h"

namespace lamina {

// All that the measurements of the model give, one figure after the other. What it has no such measurement of says why.
std::string model_maps(const Report& report);

}  // namespace lamina
