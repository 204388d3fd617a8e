// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/budget.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

Budget budget(const std::string& value, int min = 0) {
  return {Term{.name = "keeper", .arguments = {{.key = "rows", .value = value}}}, "rows", "7", min};
}

TEST(Budget, CountsRowsOrAFractionOfThePrompt) {
  EXPECT_FALSE(budget("12").is_fraction());
  EXPECT_EQ(budget("12").rows(3), 12);
  EXPECT_EQ(budget("0").rows(1000), 0);
  EXPECT_TRUE(budget("0.25").is_fraction());
  EXPECT_EQ(budget("0.25").rows(1023), 255);
  EXPECT_EQ(budget("25%").rows(1024), 256);
  EXPECT_EQ(budget("1.0").rows(77), 77);
  EXPECT_EQ(budget("0.0").rows(77), 0);
  EXPECT_EQ(budget("0.000001").rows(999'999), 0);
  EXPECT_EQ(budget("0.000001").rows(1'000'000), 1);
  EXPECT_EQ(budget("0.999999").rows(2'000'000'000), 1'999'998'000);
}

// What the decimals say, at every length: in double arithmetic 0.29 * 100 is 28.
TEST(Budget, IsExact) {
  for (int percent = 0; percent <= 100; ++percent) {
    const Budget fraction = budget(fmt::format("{}.{:02}", percent / 100, percent % 100));
    const Budget same = budget(fmt::format("{}%", percent));
    EXPECT_EQ(fraction, same);
    for (Pos prompt = 0; prompt < 3000; ++prompt) ASSERT_EQ(fraction.rows(prompt), percent * prompt / 100) << percent;
  }
}

TEST(Budget, FallsBackWhereItIsNotSaid) {
  const Term silent{.name = "keeper", .arguments = {}};
  EXPECT_EQ(Budget(silent, "rows", "7", 0), budget("7"));
  EXPECT_EQ(Budget(silent, "rows", "0.1", 0), budget("10%"));
  EXPECT_FALSE(budget("7") == budget("8"));
  EXPECT_FALSE(budget("1") == budget("1.0"));
}

TEST(Budget, PrintsItselfOneWay) {
  for (const auto& [given, printed] : {std::pair{"12", "12"},
                                       {"012", "12"},
                                       {"0.25", "0.25"},
                                       {"25%", "0.25"},
                                       {"0.250000", "0.25"},
                                       {"12.5%", "0.125"},
                                       {"0.0001%", "0.000001"},
                                       {"100%", "1.0"},
                                       {"1.0", "1.0"},
                                       {"0%", "0.0"}}) {
    EXPECT_EQ(budget(given).text(), printed);
    EXPECT_EQ(budget(printed), budget(given));
  }
}

TEST(Budget, RefusesEverythingElse) {
  for (const char* value :
       {"1.1", "101%", "%", ".", "0.", ".5", "0.1234567", "12.34567%", "-0.5", "0.5.5", "1.5", "1e-1.0"})
    EXPECT_ERROR(budget(value), fmt::format("rows of keeper is \"{}\", expected a fraction up to 1.0 or 100%", value));
  for (const char* value : {"", "x", "-1", "1000000001", "5x", "1 2"})
    EXPECT_ERROR(budget(value), fmt::format("rows of keeper is \"{}\", expected an integer from 0 to", value));
  EXPECT_ERROR(budget("0.0", 1), "expected a fraction");
  EXPECT_ERROR(budget("0%", 1), "expected a fraction");
  EXPECT_ERROR(budget("0", 1), "expected an integer from 1 to");
}

}  // namespace
}  // namespace lamina
