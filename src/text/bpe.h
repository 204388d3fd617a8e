// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE (GPT-2 and its heirs): words from a pre-tokenizer, merges in the order of the merge list.
// Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge.h"
#include "text/pretokenize.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace lamina {

struct BpeOptions {
  PreTokenizer pre = PreTokenizer::kGpt2;
  bool nfc = false;            // normalise first (Qwen 2)
  bool ignore_merges = false;  // a word that is a piece is that token, whatever the merges make (Llama 3, tekken)
};

class Bpe {
 public:
  // `merges` as in the file: "left right", both spelled byte-level. `source` is named in errors.
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const std::string_view> merges, BpeOptions options,
      const std::string& source);

  // Text without special tokens. A byte without a token in the vocabulary is dropped, as in Hugging Face's tokenizers;
  // with all 256 there (or for valid UTF-8, in most vocabularies) every byte is kept.
  void encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const;

 private:
  struct Slot {
    std::uint64_t pair = kFree;  // left << 32 | right
    Merge merge;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  std::size_t slot_of(std::uint64_t pair) const;
  Merge merge_of(Token left, Token right) const;
  void encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::array<Token, 256> byte_tokens_{};
  std::vector<Slot> slots_;  // open addressing, a power of two, at most two thirds full
};

}  // namespace lamina
