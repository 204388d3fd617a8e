// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE (GPT-2 and its heirs): words from a pre-tokenizer, merges in the order of the merge list.
// Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
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
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const MergeRule> merges, BpeOptions options);

  // Text without special tokens. A byte without a token in the vocabulary is dropped, as in Hugging Face's tokenizers;
  // with all 256 there (or for valid UTF-8, in most vocabularies) every byte is kept.
  void encode(std::string_view text, WordCache& cache, std::vector<Token>& out) const;

 private:
  void encode_word(std::string_view word, MergeBuffers& buffers, std::vector<Token>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::array<Token, 256> byte_tokens_{};
  MergeTable merges_;
};

// The merges as a GGUF file spells them: "left right", both byte-level. `source` is named in errors.
std::vector<MergeRule> merge_rules(const Vocabulary& vocabulary, std::span<const std::string_view> merges,
                                   const std::string& source);

}  // namespace lamina
