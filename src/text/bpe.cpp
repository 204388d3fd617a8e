// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <bit>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace lamina {
namespace {

std::uint64_t pair_key(Token left, Token right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const std::string_view> merges, BpeOptions options,
         const std::string& source)
    : vocabulary_(std::move(vocabulary)), options_(options), slots_(std::bit_ceil(merges.size() * 3 / 2 + 2)) {
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_tokens_[byte] = vocabulary_->find({&c, 1});
  }
  std::string bytes;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::size_t space = merges[rank].find(' ', 1);
    require(space != std::string_view::npos, "{}: tokenizer.ggml.merges[{}] is \"{}\", expected two pieces", source,
            rank, merges[rank]);
    bytes.clear();
    append_byte_level(bytes, merges[rank].substr(0, space));
    const std::size_t left_bytes = bytes.size();
    append_byte_level(bytes, merges[rank].substr(space + 1));
    const std::string_view merged = bytes;
    const Token left = vocabulary_->find(merged.substr(0, left_bytes));
    const Token right = vocabulary_->find(merged.substr(left_bytes));
    const Token id = vocabulary_->find(merged);
    require(left != kNoToken && right != kNoToken && id != kNoToken,
            "{}: tokenizer.ggml.merges[{}] is \"{}\", expected pieces of tokenizer.ggml.tokens", source, rank,
            merges[rank]);
    const std::uint64_t pair = pair_key(left, right);
    slots_[slot_of(pair)] = {pair, {static_cast<std::uint32_t>(rank), id}};
  }
}

// The slot that holds `pair`, or the free one where it would go.
std::size_t Bpe::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = (pair * 0x9E3779B97F4A7C15U >> 32) & mask;
  while (slots_[at].pair != pair && slots_[at].pair != kFree) at = (at + 1) & mask;
  return at;
}

Merge Bpe::merge_of(Token left, Token right) const { return slots_[slot_of(pair_key(left, right))].merge; }

void Bpe::encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const {
  std::string normalized;
  if (options_.nfc) text = normalized = to_nfc(text);
  std::size_t begin = 0;
  for (const std::uint32_t end : word_ends(options_.pre, text)) {
    cache.append(text.substr(begin, end - begin), out,
                 [&](std::string_view word, std::vector<Token>& tokens) { encode_word(word, cache.merge, tokens); });
    begin = end;
  }
}

void Bpe::encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const {
  if (options_.ignore_merges) {
    const Token whole = vocabulary_->find(word);
    if (whole != kNoToken && vocabulary_->type(whole) == TokenType::kNormal) {
      out.push_back(whole);
      return;
    }
  }
  buffers.symbols.clear();
  for (std::uint32_t at = 0; at < word.size(); ++at) {
    const Token token = byte_tokens_[static_cast<std::uint8_t>(word[at])];
    if (token != kNoToken) buffers.add(at, at + 1, token);
  }
  merge_symbols(buffers, [&](const Symbol& left, const Symbol& right) { return merge_of(left.id, right.id); });
  for (const Symbol& symbol : buffers.symbols) {
    if (symbol.begin != symbol.end) out.push_back(symbol.id);
  }
}

}  // namespace lamina
