// SPDX-License-Identifier: Apache-2.0
// Jinja's tests: what may follow `is`.
#pragma once
#include <string>

#include "text/jinja/value.h"

namespace lamina::jinja {

// Throws Error for a test that does not exist.
bool call_test(Env& env, const std::string& name, const Value& value, const Args& args);

}  // namespace lamina::jinja
