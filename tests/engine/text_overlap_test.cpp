// SPDX-License-Identifier: Apache-2.0
#include "engine/text_overlap.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(TextOverlap, WordsAreLettersAndDigitsInLowerCase) {
  EXPECT_EQ(words_of("It's 3,000 Euros - d\u00e9j\u00e0!"),
            (std::vector<std::string>{"it", "s", "3", "000", "euros", "d\u00e9j\u00e0"}));
  EXPECT_TRUE(words_of(" .,- \n").empty());
}

// Longest common subsequence L of m and n words: precision L/n, recall L/m, F1 = 2L/(m+n).
TEST(TextOverlap, RougeLOfHandCases) {
  EXPECT_DOUBLE_EQ(rouge_l("the cat sat", "The cat sat."), 1);
  EXPECT_DOUBLE_EQ(rouge_l("the cat sat", "a dog ran"), 0);
  EXPECT_DOUBLE_EQ(rouge_l("police killed the gunman", "police kill the gunman"), 0.75);
  EXPECT_DOUBLE_EQ(rouge_l("police killed the gunman", "the gunman kill police"), 0.5);
  EXPECT_DOUBLE_EQ(rouge_l("a b c d e f", "a c e"), 2.0 * 3 / 9);
  EXPECT_DOUBLE_EQ(rouge_l("", ""), 1);
  EXPECT_DOUBLE_EQ(rouge_l("a", ""), 0);
}

TEST(TextOverlap, RepeatedNgramsOfHandCases) {
  EXPECT_DOUBLE_EQ(repeated_ngrams(Tokens{1, 2, 3, 4, 5}, 4), 0);
  EXPECT_DOUBLE_EQ(repeated_ngrams(Tokens{1, 1, 1, 1, 1, 1, 1}, 4), 0.75);    // one of four is new
  EXPECT_DOUBLE_EQ(repeated_ngrams(Tokens{1, 2, 3, 4, 1, 2, 3, 4}, 4), 0.2);  // 1234 2341 3412 4123 1234
  EXPECT_DOUBLE_EQ(repeated_ngrams(Tokens{1, 2, 3}, 4), 0);
}

TEST(TextOverlap, FirstDifference) {
  EXPECT_EQ(first_difference(Tokens{1, 2, 3}, Tokens{1, 2, 3}), std::nullopt);
  EXPECT_EQ(first_difference(Tokens{1, 2, 3}, Tokens{1, 5, 3}), 1U);
  EXPECT_EQ(first_difference(Tokens{1, 2}, Tokens{1, 2, 3}), 2U);
  EXPECT_EQ(first_difference(Tokens{1, 2, 3}, Tokens{}), 0U);
}

}  // namespace
}  // namespace lamina
