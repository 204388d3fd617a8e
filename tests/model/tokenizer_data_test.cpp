// SPDX-License-Identifier: Apache-2.0
// The tokenizers of real model files, id for id. Files that are not there are skipped: ./dev model NAME fetches them.
#include "model/tokenizer_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "text/golden.h"

namespace lamina {
namespace {

using Ids = std::vector<Token>;

const std::string kModels = std::string(LAMINA_ROOT) + "/models/";
const std::string kShared = std::string(LAMINA_ROOT) + "/../shared/models/";

Tokenizer load(const std::string& path) { return load_tokenizer(GgufFile::open(path)); }

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  const auto strings = golden("strings").get<std::vector<std::string>>();
  const auto json = golden(name);
  ASSERT_GE(strings.size(), 300U);
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const auto special = json.at("special").at(i).get<Ids>();
    const auto plain =
        json.at("plain").contains(std::to_string(i)) ? json["plain"][std::to_string(i)].get<Ids>() : special;
    EXPECT_EQ(tokenizer.encode(strings[i], true), special) << strings[i];
    EXPECT_EQ(tokenizer.encode(strings[i], false), plain) << strings[i];
  }
}

TEST(RealTokenizer, SmolLM2EqualsHuggingFace) {
  const std::string path = kModels + "smollm2.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Tokenizer tokenizer = load(path);
  expect_golden(tokenizer, "smollm2");
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.is_end_of_generation(0));
}

TEST(RealTokenizer, Gemma3EqualsHuggingFace) {
  const std::string path = kModels + "gemma3.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Tokenizer tokenizer = load(path);
  expect_golden(tokenizer, "gemma3");
  EXPECT_EQ(tokenizer.vocab_size(), 262144);
  EXPECT_EQ(tokenizer.bos(), 2);
  EXPECT_TRUE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.is_end_of_generation(tokenizer.find_special("<end_of_turn>").value()));
  EXPECT_FALSE(tokenizer.is_end_of_generation(tokenizer.find_special("</s>").value()));  // here an HTML tag
}

void expect_plain(const Tokenizer& tokenizer, const std::string& name) {
  const auto strings = golden("strings").get<std::vector<std::string>>();
  const auto ids = golden(name).at("plain").get<std::vector<Ids>>();
  for (std::size_t i = 0; i < strings.size(); ++i) EXPECT_EQ(tokenizer.encode(strings[i], false), ids[i]) << strings[i];
}

TEST(RealTokenizer, Llama2EqualsSentencePiece) {
  const std::string path = kShared + "gguf-vocab/ggml-vocab-llama-spm.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  expect_plain(load(path), "llama2");
}

// llama2.c's layout: the longest piece's bytes, then score, bytes and spelling of each piece.
TEST(RealTokenizer, Tok512EqualsSentencePiece) {
  const std::string path = kShared + "tok512.bin";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const std::string file = read(path);
  TestVocabulary v;
  for (std::size_t at = 4; at + 8 <= file.size();) {
    float score = 0;
    std::int32_t bytes = 0;
    std::memcpy(&score, file.data() + at, 4);
    std::memcpy(&bytes, file.data() + at + 4, 4);
    v.tokens.push_back(file.substr(at + 8, bytes));
    v.data.scores.push_back(score);
    at += 8 + static_cast<std::size_t>(bytes);
  }
  ASSERT_EQ(v.tokens.size(), 512U);
  v.data.model = "llama";
  v.data.prefix = SpacePrefix::kAlways;
  v.data.strip_first_space = true;
  v.data.types.assign(512, TokenType::kNormal);
  std::fill_n(v.data.types.begin(), 259, TokenType::kByte);
  std::fill_n(v.data.types.begin(), 3, TokenType::kControl);
  expect_plain(v.tokenizer(), "tok512");
}

// llama.cpp's vectors: texts separated by a line, their ids one text a line.
class LlamaCppVectors : public testing::TestWithParam<std::string> {};

TEST_P(LlamaCppVectors, AreEqual) {
  const std::string path = kShared + "gguf-vocab/ggml-vocab-" + GetParam() + ".gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Tokenizer tokenizer = load(path);
  const std::string texts = read(path + ".inp");
  std::istringstream lines(read(path + ".out"));
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  int count = 0;
  for (std::size_t begin = 0; begin < texts.size(); ++count) {
    const std::size_t end = texts.find(kSeparator, begin);
    if (end == std::string::npos) break;
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    std::istringstream numbers(line);
    const Ids expected(std::istream_iterator<Token>(numbers), {});
    const std::string text = texts.substr(begin, end - begin);
    EXPECT_EQ(tokenizer.encode(text, false), expected) << text;
    EXPECT_EQ(tokenizer.decode(expected, true), text);
    begin = end + kSeparator.size();
  }
  EXPECT_GE(count, 40);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaCppVectors, testing::Values("gpt-2", "llama-spm", "phi-3"), test_name);

}  // namespace
}  // namespace lamina
