// SPDX-License-Identifier: Apache-2.0
// Random bytes as text, on a tiny vocabulary of each kind: nothing crashes, and byte-complete vocabularies give the
// bytes back, whole or streamed.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using lamina::Token;
using lamina::Tokenizer;
using lamina::TokenizerData;
using lamina::TokenType;

// Each byte's character in GPT-2's table.
std::vector<std::string> spelled_bytes() {
  std::vector<std::string> out(256);
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    lamina::append_utf8(out[byte], printable ? byte : next++);
  }
  return out;
}

Tokenizer byte_level(const std::string& pre) {
  std::vector<std::string> tokens = spelled_bytes();
  for (const auto* more : {"aa", "aaaa", "Ġa", "ĠĠ", "ĠĠĠĠ", "ĊĊ", "ðŁ", "<|end|>", "  "}) tokens.emplace_back(more);
  TokenizerData data;
  data.source = "fuzz";
  data.model = "gpt2";
  data.pre = pre;
  data.tokens.assign(tokens.begin(), tokens.end());
  data.types.assign(tokens.size(), TokenType::kNormal);
  data.types[263] = TokenType::kControl;
  data.types[264] = TokenType::kUserDefined;
  data.merges = {"a a", "aa aa", "Ġ a", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ", "ð Ł"};
  return Tokenizer(data);
}

Tokenizer sentence_piece(bool prefix) {
  std::vector<std::string> tokens = {"<unk>", "</s>", "\n\n", "▁▁", "▁", "▁a", "a", "aa", "aaaa", "ab", "é", "😀", "😀😀"};
  TokenizerData data;
  data.types.assign(tokens.size(), TokenType::kNormal);
  data.types[0] = TokenType::kUnknown;
  data.types[1] = TokenType::kControl;
  data.types[2] = data.types[3] = TokenType::kUserDefined;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    data.types.push_back(TokenType::kByte);
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) data.scores.push_back(-0.5F * static_cast<float>(i));
  data.source = "fuzz";
  data.model = "llama";
  data.unk = 0;
  data.prefix = prefix ? lamina::SpacePrefix::kAlways : lamina::SpacePrefix::kNever;
  data.strip_first_space = prefix;
  data.tokens.assign(tokens.begin(), tokens.end());
  return Tokenizer(data);
}

void expect(bool ok) {
  if (!ok) std::abort();
}

// `exact`: the tokens hold the very bytes of the text.
void round_trip(const Tokenizer& tokenizer, const std::string& text, bool exact) {
  for (const bool parse_special : {false, true}) {
    const std::vector<Token> tokens = tokenizer.encode(text, parse_special);
    const std::string decoded = tokenizer.decode(tokens, true);
    if (exact) expect(decoded == text);
    lamina::Detokenizer detokenizer(tokenizer, true);
    std::string streamed;
    for (const Token token : tokens) streamed += detokenizer.push(token);
    streamed += detokenizer.flush();
    for (std::size_t at = 0; at < streamed.size();) {
      const lamina::Utf8Char c = lamina::decode_utf8(streamed, at);
      expect(c.status == lamina::Utf8Status::kValid);
      at += c.bytes;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer kBpe[] = {byte_level("gpt-2"), byte_level("smollm"), byte_level("llama-bpe"),
                                   byte_level("tekken")};
  static const Tokenizer kQwen = byte_level("qwen2");  // normalises: not exact
  static const Tokenizer kSpm[] = {sentence_piece(false), sentence_piece(true)};
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const Tokenizer& tokenizer : kBpe) round_trip(tokenizer, text, true);
  round_trip(kQwen, text, false);
  const bool has_metaspace = text.find("\u2581") != std::string::npos;
  round_trip(kSpm[0], text, !has_metaspace);
  round_trip(kSpm[1], text, false);
  return 0;
}
