// SPDX-License-Identifier: Apache-2.0
// Error: thrown at the boundary for everything a user or a file can cause. The message is one line that
// names the file or field, what was found and what was expected. Broken invariants of our own are assert().
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace lamina {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> message, Args&&... args) {
  throw Error(fmt::format(message, std::forward<Args>(args)...));
}

template <class... Args>
void require(bool ok, fmt::format_string<Args...> message, Args&&... args) {
  if (!ok) fail(message, std::forward<Args>(args)...);
}

}  // namespace lamina
