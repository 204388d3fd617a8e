// SPDX-License-Identifier: Apache-2.0
// The profiles of a run as one page that needs nothing else: for each test its roofline, shares of time and table.
#pragma once
#include <string>
#include <vector>

#include "bench_profile.h"

namespace lamina {

std::string profile_page(const BenchModel& model, const std::vector<ProfiledTest>& tests);

}  // namespace lamina
