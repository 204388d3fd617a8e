// SPDX-License-Identifier: Apache-2.0
#include "text/spm.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "text/unicode.h"

namespace lamina {
namespace {

// Orders floats as unsigned integers, the highest score first; below kNoMerge for every score.
std::uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);  // -0 and 0 are the same score
  const std::uint32_t ascending = bits >> 31 != 0 ? ~bits : bits | 0x80000000U;
  return std::min(~ascending, kNoMerge - 1);
}

}  // namespace

Spm::Spm(std::shared_ptr<const Vocabulary> vocabulary, std::span<const float> scores, std::optional<Token> unk)
    : vocabulary_(std::move(vocabulary)), unk_(unk) {
  ranks_.reserve(scores.size());
  for (const float score : scores) ranks_.push_back(rank_of(score));
  for (Token token = 0; token < vocabulary_->size(); ++token) {
    if (vocabulary_->type(token) == TokenType::kUserDefined) ranks_[token] = token;  // below every finite score's
    const std::string_view piece = vocabulary_->piece(token);
    for (std::size_t at = piece.find(' ', 1); at != std::string_view::npos; at = piece.find(' ', at + 1)) {
      words_.join(piece[at - 1]);
    }
  }
  words_.join(' ');
}

void Spm::encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const {
  encode_words(text, words_, cache, out,
               [&](std::string_view word, std::vector<Token>& tokens) { encode_word(word, cache.merge, tokens); });
}

void Spm::encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const {
  buffers.symbols.clear();
  for (std::uint32_t at = 0; at < word.size();) {
    const Utf8Char c = decode_utf8(word, at);
    buffers.add(at, at + c.bytes, kNoToken);
    at += c.bytes;
  }
  merge_symbols(buffers, [&](const Symbol& left, const Symbol& right) {
    const Token token = vocabulary_->find(word.substr(left.begin, right.end - left.begin));
    return token == kNoToken ? Merge{} : Merge{ranks_[token], token};
  });
  for (const Symbol& symbol : buffers.symbols) {
    if (symbol.begin == symbol.end) continue;
    const std::string_view bytes = word.substr(symbol.begin, symbol.end - symbol.begin);
    const Token token = vocabulary_->find(bytes);
    if (token != kNoToken) {
      out.push_back(token);
    } else {
      append_bytes(bytes, out);
    }
  }
}

void Spm::append_bytes(std::string_view bytes, std::vector<Token>& out) const {
  const auto token_of = [&](char c) { return vocabulary_->byte_token(static_cast<std::uint8_t>(c)); };
  if (std::all_of(bytes.begin(), bytes.end(), [&](char c) { return token_of(c) != kNoToken; })) {
    for (const char c : bytes) out.push_back(token_of(c));
  } else if (unk_ && (out.empty() || out.back() != *unk_)) {  // a run of unknown characters is one unk
    out.push_back(*unk_);
  }
}

}  // namespace lamina
