// SPDX-License-Identifier: Apache-2.0
// The methods of str, list, tuple and dict that templates call. Those that would change a list or dict are refused,
// as the sandbox that renders chat templates in Python refuses them.
#pragma once
#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace lamina::jinja {

using MethodFunction = Value (*)(Env& env, const Value& self, const Args& args);

std::optional<Value> find_method(const Value& self, const std::string& name);  // bound to self; empty: there is none
MethodFunction find_string_method(const std::string& name);                    // nullptr: there is none

}  // namespace lamina::jinja
