// SPDX-License-Identifier: Apache-2.0
#include "engine/passkey.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace lamina {
namespace {

TEST(Passkey, TheNumberStandsAtItsDepth) {
  std::size_t first_half = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const ContextQuestions item = make_passkey(RandomText(seed), 12);
    ASSERT_EQ(item.questions.size(), 1U);
    EXPECT_TRUE(item.questions[0].text.ends_with("The secret number is"));
    ASSERT_EQ(item.questions[0].answers.size(), 1U);
    const std::string& answer = item.questions[0].answers[0];
    EXPECT_EQ(answer.size(), 5U);
    const std::size_t at = item.context.find(answer);
    ASSERT_NE(at, std::string::npos);
    first_half += at < item.context.size() / 2;
  }
  EXPECT_GT(first_half, 8U);
  EXPECT_LT(first_half, 32U);
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
  const auto items =
      read_passkeys("items.jsonl",
                    "{\"input\": \"It is 74509. Blue sky.\", \"target\": \"74509\", \"more\": 1}\n\n"
                    "{\"input\": \"12345 it is.\\nAnd more.\\nWhat is it? It is\", \"target\": \"12345\"}\n"
                    "{\"input\": \"It is 12345. What is it? It is\", \"target\": \"12345\"}\n");
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].context, "It is 74509. Blue sky.");
  EXPECT_EQ(items[0].questions[0].answers, std::vector<std::string>{"74509"});
  EXPECT_TRUE(items[0].questions[0].text.ends_with("The pass key is"));
  EXPECT_NEAR(items[0].questions[0].depth, 6.0 / 22, 1e-9);
  EXPECT_EQ(items[1].context, "12345 it is.\nAnd more.\n");
  EXPECT_EQ(items[1].questions[0].text, "What is it? It is");
  EXPECT_EQ(items[2].context, "It is 12345.");
  EXPECT_EQ(items[2].questions[0].text, " What is it? It is");
}

TEST(Passkey, LinesThatAreNoItems) {
  EXPECT_NE(error_of("").find("items.jsonl: no items"), std::string::npos);
  EXPECT_NE(error_of("{\"input\": \"a\"}").find("line 1: expected an object with strings"), std::string::npos);
  EXPECT_NE(error_of("\n[1]").find("line 2: expected an object"), std::string::npos);
  EXPECT_NE(error_of("{\"input\": \"a\", \"target\": \"b\"}").find("does not hold the target \"b\""),
            std::string::npos);
  EXPECT_NE(error_of("{\"input\": \"What is b? It is\", \"target\": \"b\"}").find("before its question"),
            std::string::npos);
}

}  // namespace
}  // namespace lamina
