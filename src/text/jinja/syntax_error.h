// SPDX-License-Identifier: Apache-2.0
// Every error of a chat template names its line.
#pragma once
#include <string_view>
#include <utility>

#include "base/error.h"

namespace lamina::jinja {

template <class... Args>
[[noreturn]] void fail_at(int line, fmt::format_string<Args...> message, Args&&... args) {
  throw Error(fmt::format("chat template, line {}: {}", line, fmt::format(message, std::forward<Args>(args)...)));
}

}  // namespace lamina::jinja
