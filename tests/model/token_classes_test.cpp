// SPDX-License-Identifier: Apache-2.0
#include "model/token_classes.h"

#include <gtest/gtest.h>

#include <map>

#include "text/golden.h"

namespace lamina {
namespace {

using Expected = std::vector<std::pair<std::string, TokenClass>>;

constexpr TokenClass kOther = TokenClass::kOther, kSpecial = TokenClass::kSpecial,
                     kPunctuation = TokenClass::kPunctuation, kBlank = TokenClass::kBlank;

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

// What a file spells, and its type: normal but for <s> and <0x..>.
void expect_classes(const std::string& model, const std::string& pre, const Expected& expected) {
  TestVocabulary v;
  v.data.model = model;
  v.data.pre = pre;
  for (const auto& [token, kind] : expected) {
    v.tokens.push_back(token);
    v.data.scores.push_back(0);
    v.data.types.push_back(kind == kSpecial             ? TokenType::kControl
                           : token.starts_with("<0x")   ? TokenType::kByte
                           : token.starts_with("<unk>") ? TokenType::kUnknown
                                                        : TokenType::kNormal);
  }
  if (model == "gpt2") v.data.scores.clear();
  const std::vector<TokenClass> classes = token_classes(v.tokenizer());
  ASSERT_EQ(classes.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(classes[i], expected[i].second) << expected[i].first;
}

TEST(TokenClasses, SentencePieceSpacesAreSpaces) {
  expect_classes("llama", "",
                 {{"<unk>", kOther},
                  {"<s>", kSpecial},
                  {"[INST]", kSpecial},
                  {".", kPunctuation},
                  {"▁.", kPunctuation},
                  {"▁", kBlank},
                  {"▁▁▁", kBlank},
                  {"\n", kBlank},
                  {"\r\n\t", kBlank},
                  {".\n", kPunctuation},
                  {"▁--▁", kPunctuation},
                  {"~`_^", kPunctuation},
                  {"a.", kOther},
                  {"▁the", kOther},
                  {"3", kOther},
                  {"1.", kOther},
                  {"。", kOther},
                  {"\u00a0", kOther},
                  {"é", kOther},
                  {"<0x0A>", kBlank},
                  {"<0x20>", kBlank},
                  {"<0x2C>", kPunctuation},
                  {"<0x41>", kOther},
                  {"<0xE3>", kOther},
                  {"<0x00>", kOther},
                  {"<0x7F>", kOther},
                  {"<0x21>", kPunctuation},
                  {"<0x7E>", kPunctuation},
                  {"<s>.", kOther},
                  {"<|>", kPunctuation}});
}

TEST(TokenClasses, ByteLevelPiecesGoByTheirBytes) {
  expect_classes("gpt2", "gpt-2",
                 {{"<|im_start|>", kSpecial},
                  {".", kPunctuation},
                  {"Ġ.", kPunctuation},
                  {"Ġ", kBlank},
                  {"Ċ", kBlank},
                  {"ĊĊ", kBlank},
                  {"ĉ", kBlank},
                  {"ĠĠ", kBlank},
                  {".Ċ", kPunctuation},
                  {"Ġthe", kOther},
                  {"'s", kOther},
                  {"ãĢĤ", kOther},
                  {"Â", kOther},
                  {"âĢ", kOther},
                  {"!!", kPunctuation},
                  {"Ġ{", kPunctuation},
                  {"0", kOther},
                  {"<h1>", kOther}});
}

// Every kind of token is there in the tests' vocabularies, and each control token is special.
TEST(TokenClasses, OfWholeVocabularies) {
  for (const char* name : {"tiny_bpe", "tiny_spm"}) {
    TestVocabulary v = TestVocabulary::load(golden(name));
    v.data.model = std::string(name) == "tiny_bpe" ? "gpt2" : "llama";
    v.data.pre = "gpt-2";
    const Tokenizer tokenizer = v.tokenizer();
    const std::vector<TokenClass> classes = token_classes(tokenizer);
    ASSERT_EQ(classes.size(), v.tokens.size());
    std::map<TokenClass, int> count;
    for (Token token = 0; token < tokenizer.vocab_size(); ++token) {
      const TokenClass kind = classes[static_cast<std::size_t>(token)];
      ++count[kind];
      EXPECT_EQ(kind == kSpecial, tokenizer.type(token) == TokenType::kControl) << token;
      const std::string_view text = tokenizer.piece(token);
      const bool letters = text.find_first_of(kLetters) != std::string_view::npos;
      EXPECT_FALSE(letters && (kind == kPunctuation || kind == kBlank)) << text;
    }
    EXPECT_EQ(count.size(), 4U) << name;
    EXPECT_GE(count[kPunctuation], 32) << name;  // each of ASCII's by itself
  }
}

}  // namespace
}  // namespace lamina
