// SPDX-License-Identifier: Apache-2.0
#include "engine/passkey.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace lamina {
namespace {

// Words, for want of a tokenizer.
std::size_t words(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return c == ' ' || c == '\n'; })) + 1;
}

TEST(Passkey, ItemsAreAsLongAsAskedAndAlwaysTheSame) {
  std::size_t first_half = 0;
  for (int i = 0; i < 40; ++i) {
    const PasskeyItem item = make_passkey(7, i, 300, words);
    EXPECT_LE(words(item.text), 300U);
    EXPECT_GT(words(item.text), 270U);
    EXPECT_EQ(item.answer.size(), 5U);
    const std::size_t at = item.text.find(item.answer);
    ASSERT_NE(at, std::string::npos);
    EXPECT_NEAR(static_cast<double>(at) / static_cast<double>(item.text.size()), item.depth, 0.25);
    EXPECT_TRUE(item.text.ends_with("The secret number is"));
    const PasskeyItem again = make_passkey(7, i, 300, words);
    EXPECT_EQ(item.text, again.text);
    EXPECT_NE(item.text, make_passkey(8, i, 300, words).text);
    EXPECT_NE(item.text, make_passkey(7, i + 1, 300, words).text);
    first_half += item.depth < 0.5;
  }
  EXPECT_GT(first_half, 8U);
  EXPECT_LT(first_half, 32U);
}

TEST(Passkey, TooShortALengthIsAnError) {
  EXPECT_THROW(make_passkey(1, 0, 20, words), Error);
  EXPECT_NO_THROW(make_passkey(1, 0, 60, words));
}

std::string error_of(const std::string& text) {
  try {
    read_passkeys("items.jsonl", text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Passkey, ItemsOfAFile) {
  const auto items = read_passkeys("items.jsonl",
                                   "{\"input\": \"It is 74509. Blue sky.\", \"target\": \"74509\", \"more\": 1}\n\n"
                                   "{\"input\": \"12345 and what is it? It is\", \"target\": \"12345\"}\n");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0].answer, "74509");
  EXPECT_TRUE(items[0].text.ends_with("The pass key is"));
  EXPECT_NEAR(items[0].depth, 6.0 / 22, 1e-9);
  EXPECT_TRUE(items[1].text.ends_with("what is it? It is"));
  EXPECT_NE(error_of("").find("items.jsonl: no items"), std::string::npos);
  EXPECT_NE(error_of("{\"input\": \"a\"}").find("line 1: expected an object with strings"), std::string::npos);
  EXPECT_NE(error_of("\n[1]").find("line 2: expected an object"), std::string::npos);
  EXPECT_NE(error_of("{\"input\": \"a\", \"target\": \"b\"}").find("does not hold the target \"b\""),
            std::string::npos);
}

}  // namespace
}  // namespace lamina
