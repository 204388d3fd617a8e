// SPDX-License-Identifier: Apache-2.0
// BPE over characters with U+2581 for the space, as Hugging Face's tokenizers run the SentencePiece vocabularies of
// Llama 2 and Mistral: merges in the order of a list, where Spm goes by the scores of the pieces. The two can differ
// where pieces may be put together in more than one way.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/space_words.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace lamina {

struct CharBpeOptions {
  bool split_at_spaces = false;  // no merge goes over the left edge of a space
  bool fuse_unk = false;         // a run of unknown characters is one unk
};

class CharBpe {
 public:
  // unk stands for a character that is no piece, where the vocabulary has no byte pieces for it; without an unk such a
  // character is dropped.
  CharBpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const MergeRule> merges, CharBpeOptions options,
          std::optional<Token> unk);

  // Text without special tokens. U+2581 counts as a space; bytes that are not UTF-8 become byte pieces.
  void encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const;

 private:
  void encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const;
  void add_character(std::string_view word, std::uint32_t begin, std::uint32_t end, MergeBuffers& buffers) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  MergeTable merges_;
  SpaceWords words_;
  bool fuse_unk_;
  std::optional<Token> unk_;
};

}  // namespace lamina
