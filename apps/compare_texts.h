// SPDX-License-Identifier: Apache-2.0
// Generated texts beside the dense cache's, the first difference marked, as HTML.
#pragma once
#include <string>

#include "compare_report.h"

namespace lamina {

std::string generated_texts(const Report& report);

}  // namespace lamina
