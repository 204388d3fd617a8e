// SPDX-License-Identifier: Apache-2.0
// The roofline of a test as SVG: operations by their intensity and speed, below what memory and arithmetic allow.
#pragma once
#include <string>

#include "bench_profile.h"

namespace lamina {

const char* css_class(OpKind kind);

// Colours and fonts come from the page's classes.
std::string roofline_svg(const ProfileRows& rows, const MachineLimits& limits, double width, double height);

}  // namespace lamina
