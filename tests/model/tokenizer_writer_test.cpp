// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <span>

#include "base/error.h"
#include "model/same_tokenizer.h"
#include "text/unicode.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

TEST(TokenizerWriter, RealTokenizersComeBack) {
  const std::string root = LAMINA_ROOT;
  int seen = 0;
  for (const std::string& path :
       {root + "/models/smollm2.gguf", root + "/../shared/models/gguf-vocab/ggml-vocab-gpt-2.gguf"}) {
    if (!fs::exists(path)) continue;
    ++seen;
    SCOPED_TRACE(path);
    const GgufFile file = GgufFile::open(path);
    expect_same(Tokenizer(tokenizer_data(file)), make_tokenizer(tokenizer_files(file)));
  }
  if (seen == 0) GTEST_SKIP() << "neither models/smollm2.gguf nor shared/models/gguf-vocab is there";
}

TEST(TokenizerWriter, SentencePieceIsRefused) {
  const GgufFile file = GgufFile::open(kTiny + "gemma3.gguf");
  try {
    tokenizer_files(file);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).find("of the kind \"llama\"") != std::string::npos) << error.what();
  }
}

// A GGUF file with a byte-level tokenizer of our own: every pre-tokenizer, and what goes around a text.
class Gguf {
 public:
  Gguf(const std::string& pre, bool adds) {
    const auto number = [](auto value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto text = [&](const std::string& s) { return number(std::uint64_t{s.size()}) + s; };
    const auto array = [&](std::uint32_t type, std::uint64_t count) {
      return number(std::uint32_t{9}) + number(type) + number(count);
    };
    const auto string_value = [&](const std::string& s) { return number(std::uint32_t{8}) + text(s); };
    std::string tokens = array(8, 260), types = array(5, 260);
    for (int i = 0; i < 256; ++i) {
      std::string byte;
      const bool plain = (i > 0x20 && i < 0x7F) || (i > 0xA0 && i != 0xAD);
      append_utf8(byte, plain ? static_cast<char32_t>(i) : static_cast<char32_t>(256 + moved_++));
      tokens += text(byte);
      types += number(std::int32_t{1});
    }
    for (const auto& [token, type] : {std::pair("<s>", 3), {"</s>", 3}, {"<mask>", 4}, {"ab", 1}}) {
      tokens += text(token);
      types += number(std::int32_t{type});
    }
    const auto id = [&](std::uint32_t value) { return number(std::uint32_t{4}) + number(value); };
    const auto flag = [&](bool value) { return number(std::uint32_t{7}) + std::string(1, value ? '\1' : '\0'); };
    const std::vector<std::pair<std::string, std::string>> pairs = {{"model", string_value("gpt2")},
                                                                    {"pre", string_value(pre)},
                                                                    {"tokens", tokens},
                                                                    {"token_type", types},
                                                                    {"merges", array(8, 1) + text("a b")},
                                                                    {"bos_token_id", id(256)},
                                                                    {"eos_token_id", id(257)},
                                                                    {"add_bos_token", flag(adds)},
                                                                    {"add_eos_token", flag(adds)}};
    bytes_ = "GGUF" + number(std::uint32_t{3}) + number(std::uint64_t{0}) + number(std::uint64_t{pairs.size()});
    for (const auto& [key, value] : pairs) bytes_ += text("tokenizer.ggml." + key) + value;
  }
  GgufFile file() const { return GgufFile::parse("test", std::as_bytes(std::span(bytes_))); }

 private:
  int moved_ = 0;
  std::string bytes_;
};

TEST(TokenizerWriter, EveryPreTokenizerComesBack) {
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "deepseek-r1-qwen"}) {
    for (const bool adds : {false, true}) {
      SCOPED_TRACE(pre);
      const Gguf gguf(pre, adds);
      const GgufFile file = gguf.file();
      const TokenizerFiles files = tokenizer_files(file);
      expect_same(Tokenizer(tokenizer_data(file)), make_tokenizer(files));
      // Without the word of tokenizer_config.json, the post_processor says the same.
      TokenizerFiles bare = files;
      bare.tokenizer_config.erase("add_bos_token");
      bare.tokenizer_config.erase("add_eos_token");
      EXPECT_EQ(make_tokenizer(bare).add_bos(), adds);
      EXPECT_EQ(make_tokenizer(bare).add_eos(), adds);
    }
  }
}

}  // namespace
}  // namespace lamina
