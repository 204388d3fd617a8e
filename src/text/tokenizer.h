// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back, from the vocabulary of a model file.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

#include "text/bpe.h"
#include "text/special_tokens.h"
#include "text/spm.h"
#include "text/vocabulary.h"

namespace lamina {

// What a file says about its tokenizer. The views need to live until the Tokenizer is made, no longer.
struct TokenizerData {
  std::string source;                    // named in errors: the file
  std::string model;                     // "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE)
  std::string pre;                       // pre-tokenizer of "gpt2", by its GGUF name
  std::vector<std::string_view> tokens;  // [token], as spelled in the file
  std::vector<float> scores;             // [token]; "llama" only
  std::vector<TokenType> types;          // [token]; empty: all normal
  std::vector<std::string_view> merges;  // "left right", by rank; "gpt2" only
  std::optional<Token> bos, eos, unk, eot, eom;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // "llama" only: a space before each stretch of ordinary text
};

class Tokenizer {
 public:
  // Throws Error on data that does not fit together or that is not supported.
  explicit Tokenizer(const TokenizerData& data);

  // No BOS or EOS is added. User-defined tokens are matched always, control tokens only when parse_special.
  // Bytes that are not UTF-8 are kept where the vocabulary has tokens for them (see Bpe::encode, Spm::encode).
  std::vector<Token> encode(std::string_view text, bool parse_special) const;

  // The exact bytes of the tokens, which need not be UTF-8 (Detokenizer is for display). Control and unknown tokens
  // are left out unless show_special. Of a vocabulary with add_space_prefix the first space is taken off again.
  std::string decode(std::span<const Token> tokens, bool show_special) const;

  int vocab_size() const { return vocabulary_->size(); }
  bool contains(Token token) const { return vocabulary_->contains(token); }
  // The bytes that a token stands for, control tokens spelled out. Tokens outside the vocabulary (a model may pad its
  // embedding) stand for nothing.
  std::string_view piece(Token token) const { return contains(token) ? vocabulary_->piece(token) : ""; }
  TokenType type(Token token) const { return contains(token) ? vocabulary_->type(token) : TokenType::kUnused; }
  bool is_special(Token token) const;  // control or unknown: not part of the text
  std::optional<Token> find_special(std::string_view text) const { return special_.find(text); }

  std::optional<Token> bos() const { return bos_; }
  std::optional<Token> eos() const { return eos_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool is_end_of_generation(Token token) const { return ends_.contains(token); }

 private:
  void append_text(std::string_view text, WordCache& cache, std::vector<Token>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  SpecialTokens special_;
  std::variant<Bpe, Spm> encoder_;
  std::optional<Token> bos_, eos_;
  std::unordered_set<Token> ends_;
  bool add_bos_, add_eos_, add_space_prefix_;
};

// Tokens to text for display, as they come: gives out whole characters only, and U+FFFD for bytes that can become
// none. Unlike Tokenizer::decode it keeps a leading space, since a stream continues a prompt.
class Detokenizer {
 public:
  // The tokenizer must outlive it.
  Detokenizer(const Tokenizer& tokenizer, bool show_special) : tokenizer_(tokenizer), show_special_(show_special) {}

  std::string push(Token token);
  std::string flush();  // what is left of an unfinished character, as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  bool show_special_;
  std::string pending_;  // the first bytes of a character, at most 3
};

}  // namespace lamina
