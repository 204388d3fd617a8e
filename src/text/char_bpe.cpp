// SPDX-License-Identifier: Apache-2.0
#include "text/char_bpe.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace lamina {
namespace {

SpaceWords space_words(const Vocabulary& vocabulary, std::span<const MergeRule> merges, bool split_at_spaces) {
  SpaceWords words;
  if (split_at_spaces) return words;
  // An unknown space could be one unk with the characters before it.
  if (vocabulary.find(" ") == kNoToken) words.join_all();
  words.join(' ');
  for (const MergeRule& rule : merges) {
    const std::string_view left = vocabulary.piece(rule.left), right = vocabulary.piece(rule.right);
    const bool begins_with_space = right.starts_with(' ') || right.starts_with(kMetaspace);  // control tokens keep it
    if (begins_with_space && !left.empty()) words.join(left.back());
  }
  return words;
}

}  // namespace

CharBpe::CharBpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const MergeRule> merges,
                 CharBpeOptions options, std::optional<Token> unk)
    : vocabulary_(std::move(vocabulary)),
      merges_(merges),
      words_(space_words(*vocabulary_, merges, options.split_at_spaces)),
      fuse_unk_(options.fuse_unk),
      unk_(unk) {}

void CharBpe::encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const {
  encode_words(text, words_, cache, out,
               [&](std::string_view word, std::vector<Token>& tokens) { encode_word(word, cache.merge, tokens); });
}

void CharBpe::encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const {
  buffers.symbols.clear();
  for (std::uint32_t at = 0; at < word.size();) {
    const std::uint32_t end = at + decode_utf8(word, at).bytes;
    add_character(word, at, end, buffers);
    at = end;
  }
  merge_symbols(buffers, [&](const Symbol& left, const Symbol& right) { return merges_.find(left.id, right.id); });
  for (const Symbol& symbol : buffers.symbols) {
    if (symbol.begin != symbol.end) out.push_back(symbol.id);
  }
}

void CharBpe::add_character(std::string_view word, std::uint32_t begin, std::uint32_t end,
                            MergeBuffers& buffers) const {
  const std::string_view bytes = word.substr(begin, end - begin);
  if (const Token token = vocabulary_->find(bytes); token != kNoToken) return buffers.add(begin, end, token);
  const auto token_of = [&](char c) { return vocabulary_->byte_token(static_cast<std::uint8_t>(c)); };
  if (std::all_of(bytes.begin(), bytes.end(), [&](char c) { return token_of(c) != kNoToken; })) {
    for (std::uint32_t at = begin; at < end; ++at) buffers.add(at, at + 1, token_of(word[at]));
    return;
  }
  if (!unk_) return;
  const bool extends = fuse_unk_ && !buffers.symbols.empty() && buffers.symbols.back().id == *unk_;
  if (extends) {
    buffers.symbols.back().end = end;
  } else {
    buffers.add(begin, end, *unk_);
  }
}

}  // namespace lamina
