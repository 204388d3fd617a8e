// SPDX-License-Identifier: Apache-2.0
// What the tests of token policies share.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/spec_parser.h"
#include "kv/tokens/registry.h"

namespace lamina {

inline std::shared_ptr<const TokenPolicy> policy(std::string_view text) {
  return make_token_policy(parse_terms(text).at(0));
}

inline std::vector<Pos> range(Pos first, Pos last) {
  std::vector<Pos> pos(static_cast<std::size_t>(last - first));
  std::iota(pos.begin(), pos.end(), first);
  return pos;
}

inline Step prompt_end(Pos length) { return {.phase = Phase::kPromptEnd, .length = length, .prompt_length = length}; }
inline Step decode(Pos length, Pos prompt) {
  return {.phase = Phase::kDecode, .length = length, .prompt_length = prompt};
}

// Each given term is printed as its canonical one, which is printed as itself.
inline void expect_canonical(const std::vector<std::pair<std::string_view, std::string_view>>& cases) {
  for (const auto& [given, canonical] : cases) {
    EXPECT_EQ(policy(given)->text(), canonical);
    EXPECT_EQ(policy(canonical)->text(), canonical);
  }
}

}  // namespace lamina
