// SPDX-License-Identifier: Apache-2.0
// What is promising, on made-up measurements.
#include "engine/tune_survey.h"

#include <gtest/gtest.h>

#include <limits>

namespace lamina {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

Survey::OfMethod method(const std::string& name, std::vector<double> kl, bool by_layer = true) {
  return {.method = {.name = name, .term = [](double) { return ""; }, .by_layer = by_layer}, .kl = std::move(kl)};
}

std::vector<std::string> names(const std::vector<TokenMethod>& methods) {
  std::vector<std::string> all;
  for (const TokenMethod& m : methods) all.push_back(m.name);
  return all;
}

std::vector<std::string> terms(const std::vector<RowBits>& bits) {
  std::vector<std::string> all;
  for (const RowBits& b : bits) all.push_back(b.term());
  return all;
}

using Names = std::vector<std::string>;

TEST(Promising, FormatsThatNoOtherBeats) {
  const Survey survey{.bits = {{.bits = {.format = "a"}, .bytes = 100, .kl = 0.1},
                               {.bits = {.format = "a", .rotate = true}, .bytes = 100, .kl = 0.05},
                               {.bits = {.format = "b"}, .bytes = 50, .kl = 0.2},
                               {.bits = {.format = "b", .rotate = true}, .bytes = 50, .kl = 0.3},
                               {.bits = {.format = "c"}, .bytes = 60, .kl = 0.4},   // larger and worse than b
                               {.bits = {.format = "d"}, .bytes = 10, .kl = 2.5}},  // gibberish
                      .methods = {}};
  const Promising found = promising(survey, 60);
  EXPECT_EQ(terms(found.bits), (Names{"a + rotate", "b"}));
  EXPECT_EQ(terms(found.bits_by_layer), (Names{"a", "b", "a + rotate", "b + rotate"}));
  EXPECT_TRUE(found.methods.empty());
}

TEST(Promising, FormatsAroundTheBudget) {
  Survey survey;
  for (const int bytes : {800, 400, 200, 150, 100, 75, 50, 25})
    survey.bits.push_back(
        {.bits = {.format = std::to_string(bytes)}, .bytes = static_cast<std::size_t>(bytes), .kl = 1.0 / bytes});
  EXPECT_EQ(promising(survey, 100).bits.size(), 8U);
  EXPECT_EQ(terms(promising(survey, 100).bits_by_layer), (Names{"400", "200", "150", "100", "75"}));
  EXPECT_EQ(terms(promising(survey, 400).bits_by_layer), (Names{"800", "400", "200", "150", "100"}));
  EXPECT_EQ(promising(survey, 110).bits_by_head.value().term(), "100");
}

TEST(Promising, MethodsByWhatTheyCostBesideTheBest) {
  // At the first share the best costs a hundredth of what it costs at the second: shares count alike.
  const Survey survey{
      .bits = {},
      .methods = {method("x", {0.001, 0.9}), method("y", {0.004, 0.1}), method("u", {0.002, 0.2}),
                  method("z", {0.002, 0.3}), method("w", {0.001, kNever}), method("v", {0.001, 0.11}, false)}};
  const Promising found = promising(survey, 1);
  EXPECT_EQ(names(found.methods), (Names{"v", "u", "y", "z"}));
  EXPECT_EQ(names(found.methods_by_layer), (Names{"u", "y"}));  // v is none by layer
}

}  // namespace
}  // namespace lamina
