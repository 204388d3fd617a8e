// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "text/golden.h"

namespace lamina {
namespace {

using Ids = std::vector<Token>;

TestVocabulary tiny_bpe(std::string pre) {
  TestVocabulary v = TestVocabulary::load(golden("tiny_bpe"));
  v.data.model = "gpt2";
  v.data.pre = std::move(pre);
  v.data.eos = 2;
  return v;
}

TestVocabulary tiny_spm(bool prefix) {
  TestVocabulary v = TestVocabulary::load(golden("tiny_spm"));
  v.data.model = "llama";
  v.data.prefix = prefix ? SpacePrefix::kAlways : SpacePrefix::kNever;
  v.data.strip_first_space = prefix;
  v.data.unk = 0;
  v.data.bos = 1;
  v.data.eos = 2;
  return v;
}

std::string error_of(TestVocabulary v) {
  try {
    v.tokenizer();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class TinyBpe : public testing::TestWithParam<std::string> {};

TEST_P(TinyBpe, EqualsHuggingFace) {
  const auto json = golden("tiny_bpe");
  const Tokenizer tokenizer = tiny_bpe(GetParam()).tokenizer();
  const auto strings = json.at("strings").get<std::vector<std::string>>();
  const auto ids = json.at("ids").at(GetParam()).get<std::vector<Ids>>();
  ASSERT_GE(strings.size(), 100U);
  for (std::size_t i = 0; i < strings.size(); ++i) EXPECT_EQ(tokenizer.encode(strings[i], true), ids[i]) << strings[i];
}

INSTANTIATE_TEST_SUITE_P(All, TinyBpe, testing::Values("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"), test_name);

TEST(TinySpm, EqualsSentencePiece) {
  for (const bool prefix : {false, true}) {
    const Tokenizer tokenizer = tiny_spm(prefix).tokenizer();
    const auto expected =
        golden("tiny_spm").at("ids").at(prefix ? "prefix" : "plain").get<std::vector<std::pair<std::string, Ids>>>();
    ASSERT_GE(expected.size(), 100U);
    for (const auto& [text, ids] : expected) {
      EXPECT_EQ(tokenizer.encode(text, false), ids) << text;
      std::string spaced;
      append_metaspace(spaced, text);  // U+2581 is a space
      EXPECT_EQ(tokenizer.decode(ids, true), spaced);
    }
  }
}

TEST(Bpe, BytesComeBackWhateverTheyAre) {
  for (const auto* pre : {"gpt-2", "smollm", "llama-bpe", "tekken"}) {
    const Tokenizer tokenizer = tiny_bpe(pre).tokenizer();
    std::string text = "a\xff\xc3(\xe2\x82 \xf0\x9f\x98";
    for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
    for (const bool parse_special : {false, true}) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, parse_special), true), text) << pre;
    }
  }
}

TEST(Bpe, ControlTokensAreParsedByChoice) {
  const Tokenizer tokenizer = tiny_bpe("smollm").tokenizer();
  const std::string text = "<|im_start|>a<|im_end|>";
  const Ids parsed = tokenizer.encode(text, true);
  EXPECT_EQ(parsed.front(), 1);
  EXPECT_EQ(parsed.back(), 2);
  EXPECT_EQ(parsed.size(), 3U);
  for (const Token token : tokenizer.encode(text, false)) EXPECT_EQ(tokenizer.type(token), TokenType::kNormal);
  EXPECT_EQ(tokenizer.decode(parsed, true), text);
  EXPECT_EQ(tokenizer.decode(parsed, false), "a");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
}

TEST(Bpe, LongWordsMergeAsShortOnes) {  // the heap, not a scan for each merge
  const Tokenizer tokenizer = tiny_bpe("gpt-2").tokenizer();
  const std::string text(1 << 20, 'a');
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
}

TEST(Spm, ASpaceGoesBeforeEachStretchOfText) {
  const Tokenizer tokenizer = tiny_spm(true).tokenizer();
  Ids expected = tokenizer.encode("Hello", false);
  expected.push_back(2);
  const Ids again = tokenizer.encode("Hello", false);
  expected.insert(expected.end(), again.begin(), again.end());
  EXPECT_EQ(tokenizer.encode("Hello</s>Hello", true), expected);
  EXPECT_EQ(tokenizer.piece(expected.front()).front(), ' ');
  EXPECT_EQ(tokenizer.decode(again, true), "Hello");
}

TEST(Spm, UserDefinedTokensAreMatchedAlways) {
  const Tokenizer tokenizer = tiny_spm(false).tokenizer();
  const Token lines = tokenizer.find_special("\n\n").value();
  const Token line = tokenizer.find_special("\n").value();
  const Token head = tokenizer.find_special("<h1>").value();
  EXPECT_EQ(tokenizer.encode("\n\n\n<h1>", false), (Ids{lines, line, head}));
  for (const Token token : tokenizer.encode("</s>", false)) EXPECT_FALSE(tokenizer.is_special(token));
}

TEST(Spm, UserDefinedRunsOfSpacesMergeFirst) {
  TestVocabulary v;
  v.tokens = {"<unk>", "  ", "    ", "\u2581", "a", "\u2581a"};
  v.data.model = "llama";
  v.data.scores = {0, -1000, -1000, -3, -4, -1};
  v.data.types.assign(6, TokenType::kNormal);
  v.data.types[1] = v.data.types[2] = TokenType::kUserDefined;
  const Tokenizer tokenizer = v.tokenizer();
  EXPECT_EQ(tokenizer.encode("  a", false), (Ids{1, 4}));
  EXPECT_EQ(tokenizer.encode(" a", false), (Ids{5}));
  EXPECT_EQ(tokenizer.encode("       a", false), (Ids{2, 1, 5}));
}

TEST(Spm, WithoutBytePiecesARunOfUnknownsIsOneUnk) {
  TestVocabulary v;
  v.tokens = {"<unk>", "a"};
  v.data.model = "llama";
  v.data.scores = {0, 0};
  v.data.unk = 0;
  EXPECT_EQ(v.tokenizer().encode("axyza\xff", false), (Ids{1, 0, 1, 0}));
  v.data.unk.reset();
  EXPECT_EQ(v.tokenizer().encode("axyza\xff", false), (Ids{1, 1}));
}

TEST(Spm, InvalidUtf8BecomesBytePieces) {
  const Tokenizer tokenizer = tiny_spm(true).tokenizer();
  const std::string text("a\xff\xe2\x82 \0 b\xc3", 9);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
}

TEST(Tokenizer, KnowsWhatEndsGeneration) {
  TestVocabulary v = tiny_bpe("smollm");
  v.data.eot = 300;
  const Tokenizer tokenizer = v.tokenizer();
  EXPECT_TRUE(tokenizer.is_end_of_generation(2));    // eos
  EXPECT_TRUE(tokenizer.is_end_of_generation(300));  // eot
  EXPECT_TRUE(tokenizer.is_end_of_generation(tokenizer.find_special("<|endoftext|>").value()));
  EXPECT_FALSE(tokenizer.is_end_of_generation(tokenizer.find_special("<|im_start|>").value()));
  EXPECT_FALSE(tokenizer.find_special("<|im_start").has_value());
}

TEST(Tokenizer, TokensOutsideTheVocabularyPrintNothing) {
  const Tokenizer tokenizer = tiny_bpe("smollm").tokenizer();
  EXPECT_EQ(tokenizer.decode(Ids{-1, tokenizer.vocab_size(), 1 << 30}, true), "");
}

TEST(Tokenizer, RefusesDataThatDoesNotFit) {
  TestVocabulary v = tiny_bpe("jais");
  EXPECT_EQ(error_of(v), "test: tokenizer.ggml.pre is \"jais\", expected gpt-2, smollm, llama-bpe, qwen2 or tekken");
  v.data.model = "bert";
  EXPECT_EQ(error_of(v), "test: tokenizer.ggml.model is \"bert\", expected \"gpt2\" or \"llama\"");
  v = tiny_bpe("gpt-2");
  v.merges[5] = "nospace";
  EXPECT_EQ(error_of(v), "test: tokenizer.ggml.merges[5] is \"nospace\", expected two pieces");
  v.merges[5] = "qq zz";
  EXPECT_EQ(error_of(v), "test: tokenizer.ggml.merges[5] is \"qq zz\", expected pieces of tokenizer.ggml.tokens");
  v = tiny_bpe("gpt-2");
  v.data.types.pop_back();
  EXPECT_NE(error_of(v).find("tokenizer.ggml.token_type has"), std::string::npos);
  v = tiny_bpe("gpt-2");
  v.data.eos = 100000;
  EXPECT_NE(error_of(v).find("tokenizer.ggml.eos_token_id is 100000"), std::string::npos);
  v = tiny_spm(true);
  v.data.scores.clear();
  EXPECT_NE(error_of(v).find("tokenizer.ggml.scores has 0 entries"), std::string::npos);
  v.tokens.clear();
  EXPECT_NE(error_of(v).find("tokenizer.ggml.tokens has 0 entries"), std::string::npos);
}

// One token for each byte, and <|end|>.
Tokenizer bytes_tokenizer() {
  TestVocabulary v;
  for (int byte = 0; byte < 256; ++byte) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    v.data.types.push_back(TokenType::kByte);
  }
  v.tokens.emplace_back("<|end|>");
  v.data.types.push_back(TokenType::kControl);
  v.data.scores.assign(257, 0);
  v.data.model = "llama";
  return v.tokenizer();
}

TEST(Detokenizer, GivesOutWholeCharactersOnly) {
  const Tokenizer tokenizer = bytes_tokenizer();
  Detokenizer detokenizer(tokenizer, false);
  EXPECT_EQ(detokenizer.push(0xF0), "");
  EXPECT_EQ(detokenizer.push(0x9F), "");
  EXPECT_EQ(detokenizer.push(256), "");  // a hidden token does not break a character
  EXPECT_EQ(detokenizer.push(0x98), "");
  EXPECT_EQ(detokenizer.push(0x80), "\U0001F600");
  EXPECT_EQ(detokenizer.push('a'), "a");
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST(Detokenizer, InvalidBytesBecomeTheReplacementCharacter) {
  const Tokenizer tokenizer = bytes_tokenizer();
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.push(0xFF), "\uFFFD");
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.push('x'), "\uFFFDx");
  EXPECT_EQ(detokenizer.push(0xC3), "");
  EXPECT_EQ(detokenizer.push(256), "\uFFFD<|end|>");
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.push(0x82), "");
  EXPECT_EQ(detokenizer.flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST(Detokenizer, AStreamEqualsTheWholeText) {
  const Tokenizer tokenizer = tiny_bpe("gpt-2").tokenizer();
  for (const std::string& text : golden("strings").get<std::vector<std::string>>()) {
    Detokenizer detokenizer(tokenizer, true);
    std::string streamed;
    for (const Token token : tokenizer.encode(text, true)) streamed += detokenizer.push(token);
    EXPECT_EQ(streamed + detokenizer.flush(), text);
  }
}

}  // namespace
}  // namespace lamina
