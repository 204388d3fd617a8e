// SPDX-License-Identifier: Apache-2.0
// The pieces of a vocabulary as the bytes that they print, and the way back from bytes to a piece.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

using Token = std::int32_t;
constexpr Token kNoToken = -1;

enum class TokenType : std::uint8_t {  // tokenizer.ggml.token_type
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// How the file spells a normal piece.
enum class Spelling : std::uint8_t {
  kByteLevel,  // one printable character for each byte (GPT-2)
  kMetaspace,  // U+2581 for a space, <0x0A> for a byte (SentencePiece)
};

constexpr std::string_view kMetaspace = "\u2581";  // SentencePiece's space

// The bytes behind a byte-level spelling; characters outside GPT-2's table stay as they are.
void append_byte_level(std::string& out, std::string_view spelled);
// The same for SentencePiece: U+2581 becomes a space.
void append_metaspace(std::string& out, std::string_view spelled);

class Vocabulary {
 public:
  // `types` is empty (all normal) or as long as `tokens`. Keeps no reference to its arguments.
  Vocabulary(Spelling spelling, std::span<const std::string_view> tokens, std::span<const TokenType> types);

  int size() const { return static_cast<int>(types_.size()); }
  bool contains(Token token) const { return token >= 0 && token < size(); }
  std::string_view piece(Token token) const {
    return std::string_view(bytes_).substr(offsets_[token], offsets_[token + 1] - offsets_[token]);
  }
  TokenType type(Token token) const { return types_[token]; }

  // The normal or user-defined piece with these bytes (normal first, then the smallest id), or kNoToken.
  Token find(std::string_view bytes) const;
  // Byte pieces <0x00>..<0xFF> of a SentencePiece vocabulary; kNoToken where there is none.
  Token byte_token(std::uint8_t byte) const { return byte_tokens_[byte]; }

 private:
  struct Slot {
    std::uint32_t tag = 0;  // upper half of the hash: most other pieces differ here, without a look at their bytes
    Token token = kNoToken;
  };
  void append_piece(Spelling spelling, Token token, std::string_view spelled);
  void index(TokenType type);

  std::string bytes_;                   // all pieces, one after the other
  std::vector<std::uint32_t> offsets_;  // [token], and the end
  std::vector<TokenType> types_;        // [token]
  std::vector<Slot> slots_;             // open addressing, a power of two, at most half full
  std::vector<Token> byte_tokens_;      // [256]
};

}  // namespace lamina
