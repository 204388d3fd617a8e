// SPDX-License-Identifier: Apache-2.0
#include "text/vocabulary.h"

#include <array>
#include <bit>
#include <functional>
#include <limits>

#include "base/error.h"
#include "text/unicode.h"

namespace lamina {
namespace {

// GPT-2's table, backwards: a printable byte of Latin-1 stands for itself, the other 68 bytes are the characters from
// U+0100 on, in order. -1 where a character is no byte's.
constexpr std::size_t kByteChars = 256 + 68;
constexpr std::array<std::int16_t, kByteChars> byte_of_char() {
  std::array<std::int16_t, kByteChars> table{};
  std::size_t next = 256;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    if (!printable) table[byte] = -1;
    table[printable ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return table;
}
constexpr auto kByteOfChar = byte_of_char();

// "<0x0A>" -> 10; -1 for any other spelling.
int byte_value(std::string_view spelled) {
  if (spelled.size() != 6 || !spelled.starts_with("<0x") || spelled[5] != '>') return -1;
  int value = 0;
  for (const char c : spelled.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return -1;
    value = value * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return value;
}

}  // namespace

void append_byte_level(std::string& out, std::string_view spelled) {
  for (std::size_t at = 0; at < spelled.size();) {
    const Utf8Char c = decode_utf8(spelled, at);
    const int byte = c.status == Utf8Status::kValid && c.code < kByteChars ? kByteOfChar[c.code] : -1;
    if (byte >= 0) {
      out += static_cast<char>(byte);
    } else {
      out += spelled.substr(at, c.bytes);
    }
    at += c.bytes;
  }
}

void append_metaspace(std::string& out, std::string_view spelled) {
  for (std::size_t at = 0;;) {
    const std::size_t next = spelled.find(kMetaspace, at);
    out += spelled.substr(at, next - at);
    if (next == std::string_view::npos) return;
    out += ' ';
    at = next + kMetaspace.size();
  }
}

Vocabulary::Vocabulary(Spelling spelling, std::span<const std::string_view> tokens, std::span<const TokenType> types)
    : types_(types.begin(), types.end()), byte_tokens_(256, kNoToken) {
  if (types_.empty()) types_.assign(tokens.size(), TokenType::kNormal);
  std::size_t total = 0;
  for (const std::string_view token : tokens) total += token.size();
  require(total <= std::numeric_limits<std::uint32_t>::max(), "a vocabulary of {} bytes, at most 4 GiB", total);
  bytes_.reserve(total);
  offsets_.reserve(tokens.size() + 1);
  offsets_.push_back(0);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    append_piece(spelling, static_cast<Token>(i), tokens[i]);
    offsets_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  slots_.resize(std::bit_ceil(2 * tokens.size() + 1));
  index(TokenType::kNormal);
  index(TokenType::kUserDefined);
}

void Vocabulary::append_piece(Spelling spelling, Token token, std::string_view spelled) {
  const TokenType type = types_[token];
  const int byte = type == TokenType::kByte ? byte_value(spelled) : -1;
  if (byte >= 0) {
    bytes_ += static_cast<char>(byte);
    byte_tokens_[byte] = token;
    return;
  }
  const bool plain = type == TokenType::kControl || type == TokenType::kUnknown ||
                     (type == TokenType::kUserDefined && spelling == Spelling::kByteLevel);
  if (plain) {
    bytes_ += spelled;
  } else if (spelling == Spelling::kMetaspace) {
    append_metaspace(bytes_, spelled);
  } else {
    append_byte_level(bytes_, spelled);
  }
}

void Vocabulary::index(TokenType type) {
  for (Token token = 0; token < size(); ++token) {
    if (types_[token] != type || piece(token).empty()) continue;
    const std::size_t hash = std::hash<std::string_view>{}(piece(token));
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = hash & (slots_.size() - 1);
    bool known = false;
    for (; slots_[at].token != kNoToken && !known; at = (at + 1) & (slots_.size() - 1)) {
      known = slots_[at].tag == tag && piece(slots_[at].token) == piece(token);
    }
    if (!known) slots_[at] = {tag, token};
  }
}

Token Vocabulary::find(std::string_view bytes) const {
  const std::size_t hash = std::hash<std::string_view>{}(bytes);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot slot = slots_[at];
    if (slot.token == kNoToken || (slot.tag == tag && piece(slot.token) == bytes)) return slot.token;
  }
}

}  // namespace lamina
