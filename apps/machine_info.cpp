// SPDX-License-Identifier: Apache-2.0
#include "machine_info.h"

#include <fstream>

namespace lamina {

std::string build_commit() { return LAMINA_BUILD_COMMIT; }

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace lamina
