// SPDX-License-Identifier: Apache-2.0
// The functions that every chat template can call.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace lamina::jinja {

// range, dict, namespace, cycler, joiner, raise_exception, strftime_now
std::vector<std::pair<std::string, Value>> globals();

}  // namespace lamina::jinja
