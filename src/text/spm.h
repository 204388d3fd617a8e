// SPDX-License-Identifier: Apache-2.0
// SentencePiece's BPE (Llama 2, Mistral, Gemma): of all neighbours whose concatenation is a piece, the one with the
// highest score merges first; characters that are no piece fall back to byte pieces.
// Kudo and Richardson, SentencePiece, 2018, https://arxiv.org/abs/1808.06226
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/merge.h"
#include "text/space_words.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace lamina {

class Spm {
 public:
  // scores[token]; unk stands for what is neither piece nor bytes (dropped without one).
  Spm(std::shared_ptr<const Vocabulary> vocabulary, std::span<const float> scores, std::optional<Token> unk);

  // Text without control and user-defined tokens, but for user-defined runs of spaces (Gemma): these are pieces that
  // merge before all others, the smallest id first, as in Hugging Face's tokenizers. SentencePiece itself takes the
  // longest run first, which differs for runs longer than the longest piece only.
  // Bytes that are not UTF-8 become byte pieces. U+2581 counts as a space. Unused pieces (type 5) take no part.
  void encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const;

 private:
  void encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const;
  void append_bytes(std::string_view bytes, std::vector<Token>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<std::uint32_t> ranks_;  // [token]; the order of descending scores
  SpaceWords words_;
  std::optional<Token> unk_;
};

}  // namespace lamina
