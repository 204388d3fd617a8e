// SPDX-License-Identifier: Apache-2.0
// A comparison as one page that needs nothing else.
#pragma once
#include <string>

#include "compare_report.h"

namespace lamina {

std::string comparison_page(const Report& report);

}  // namespace lamina
