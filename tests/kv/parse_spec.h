// SPDX-License-Identifier: Apache-2.0
// Specs for a small model, and files that they name: shared by the tests of spec strings.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>

#include "kv/spec.h"

namespace lamina {

inline const KvShape kShape = {.layers = 4, .kv_heads = 2, .head_dim = 64, .windows = {0, 0, 0, 0}, .fingerprint = {}};

inline KvSpec parse(std::string_view text) { return KvSpec::parse(text, kShape); }

inline std::string write_file(const std::string& name, std::string_view content) {
  std::string file = ::testing::TempDir() + name;
  std::ofstream(file) << content;
  return file;
}

}  // namespace lamina
