// SPDX-License-Identifier: Apache-2.0
#include "text/pretokenize.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/golden.h"

namespace lamina {
namespace {

std::vector<std::string> words(std::string_view pre, std::string_view text) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  for (const std::uint32_t end : word_ends(find_pre_tokenizer(pre).value(), text)) {
    out.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return out;
}

using Words = std::vector<std::string>;

class PreTokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(PreTokenizerGolden, EqualsTheRegularExpression) {
  const auto strings = golden("strings").get<std::vector<std::string>>();
  const auto splits = golden("splits").at(GetParam());
  ASSERT_GE(strings.size(), 300U);
  ASSERT_EQ(splits.size(), strings.size());
  for (std::size_t i = 0; i < strings.size(); ++i) {
    std::vector<std::size_t> sizes;
    for (const std::string& word : words(GetParam(), strings[i])) sizes.push_back(word.size());
    EXPECT_EQ(sizes, splits[i].get<std::vector<std::size_t>>()) << strings[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, PreTokenizerGolden, testing::Values("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"),
                         test_name);

TEST(PreTokenizer, NamesAndAliases) {
  EXPECT_EQ(find_pre_tokenizer("default"), PreTokenizer::kGpt2);
  EXPECT_EQ(find_pre_tokenizer("llama-v3"), PreTokenizer::kLlamaBpe);
  EXPECT_EQ(find_pre_tokenizer("llama3"), PreTokenizer::kLlamaBpe);
  EXPECT_EQ(find_pre_tokenizer("deepseek-r1-qwen"), PreTokenizer::kQwen2);
  EXPECT_EQ(find_pre_tokenizer("jais"), std::nullopt);
}

TEST(PreTokenizer, ANumberEndsTheTextBeforeItInSmolLM) {
  EXPECT_EQ(words("gpt-2", "a   12"), (Words{"a", "  ", " 12"}));
  EXPECT_EQ(words("smollm", "a   12"), (Words{"a", "   ", "1", "2"}));
  EXPECT_EQ(words("smollm", "a   b"), (Words{"a", "  ", " b"}));
}

TEST(PreTokenizer, DigitsComeByThreesOrOneByOne) {
  EXPECT_EQ(words("llama-bpe", "12345"), (Words{"123", "45"}));
  EXPECT_EQ(words("qwen2", "123"), (Words{"1", "2", "3"}));
}

TEST(PreTokenizer, TekkenGivesBackWhatBothPartsTake) {
  EXPECT_EQ(words("tekken", "HelloWorldABC"), (Words{"Hello", "World", "ABC"}));
  EXPECT_EQ(words("tekken", "A\u00aaBC"), (Words{"A\u00aa", "BC"}));  // Lo belongs to both
}

TEST(PreTokenizer, BytesThatAreNotUtf8AreSymbols) {
  EXPECT_EQ(words("gpt-2", "a\xff\xfe b\xe2\x82"), (Words{"a", "\xff\xfe", " b", "\xe2\x82"}));
  EXPECT_TRUE(word_ends(PreTokenizer::kTekken, "").empty());
}

}  // namespace
}  // namespace lamina
