// SPDX-License-Identifier: Apache-2.0
// EXPECT_ERROR(statement, part): the statement throws Error, one line that contains `part`.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace lamina {

// The message of the Error that `run` throws; empty when it throws none.
template <class F>
std::string error_of(F&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline bool is_line_with(const std::string& message, const std::string& part) {
  return message.find('\n') == std::string::npos && message.find(part) != std::string::npos;
}

}  // namespace lamina

#define EXPECT_ERROR(statement, part) \
  EXPECT_PRED2(::lamina::is_line_with, ::lamina::error_of([&] { static_cast<void>(statement); }), part)
