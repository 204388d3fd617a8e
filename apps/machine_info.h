// SPDX-License-Identifier: Apache-2.0
// What a measurement must name beside its figures: the build and the processor.
#pragma once
#include <string>

namespace lamina {

std::string build_commit();  // of the source tree when the build was configured; the version where there is no git
std::string cpu_name();      // "model name" of /proc/cpuinfo, or "unknown"

}  // namespace lamina
