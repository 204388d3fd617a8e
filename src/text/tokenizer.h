// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back, from the vocabulary of a model file.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

#include "text/bpe.h"
#include "text/char_bpe.h"
#include "text/special_tokens.h"
#include "text/spm.h"
#include "text/vocabulary.h"

namespace lamina {

// A space that goes before a stretch of ordinary text, between special tokens, for SentencePiece-like vocabularies.
enum class SpacePrefix : std::uint8_t {
  kNever,
  kAlways,
  kUnlessSpace,         // where the stretch does not begin with one
  kAtStartUnlessSpace,  // the same, at the start of the text only
};

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
  SpacePrefix prefix = SpacePrefix::kNever;  // "llama" only
  bool strip_first_space = false;            // of decoded text

  // What tokenizer.json says in full, where a GGUF file has a name that stands for it.
  std::optional<BpeOptions> bpe;           // of "gpt2", in place of `pre`
  std::optional<CharBpeOptions> char_bpe;  // of "llama", in place of `scores`
  std::vector<MergeRule> merge_rules;      // by rank, in place of `merges`
  std::vector<AddedToken> added;           // in place of `types` for what is matched in a text before all else
  std::vector<Token> ends;                 // of a generation, beside eos
};

// How a byte-level BPE cuts and merges, by `bpe` or else by the name in `pre`. Error for a name that is not known.
BpeOptions bpe_options(const TokenizerData& data);

class Tokenizer {
 public:
  // Throws Error on data that does not fit together or that is not supported.
  explicit Tokenizer(const TokenizerData& data);

  // No BOS or EOS is added. User-defined tokens are matched always, control tokens only when parse_special.
  // Bytes that are not UTF-8 are kept where the vocabulary has tokens for them (see Bpe::encode, Spm::encode).
  std::vector<Token> encode(std::string_view text, bool parse_special) const;

  // The exact bytes of the tokens, which need not be UTF-8 (Detokenizer is for display). Control and unknown tokens
  // are left out unless show_special. With strip_first_space the first space is taken off again.
  std::string decode(std::span<const Token> tokens, bool show_special) const;

  int vocab_size() const { return vocabulary_->size(); }
  bool contains(Token token) const { return vocabulary_->contains(token); }
  // The bytes that a token stands for, control tokens spelled out. Tokens outside the vocabulary (a model may pad its
  // embedding) stand for nothing.
  std::string_view piece(Token token) const { return contains(token) ? vocabulary_->piece(token) : ""; }
  TokenType type(Token token) const { return contains(token) ? vocabulary_->type(token) : TokenType::kUnused; }
  bool is_special(Token token) const;  // control or unknown: not part of the text
  std::optional<Token> find_special(std::string_view text) const;

  std::optional<Token> bos() const { return bos_; }
  std::optional<Token> eos() const { return eos_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool is_end_of_generation(Token token) const { return ends_.contains(token); }

 private:
  struct Encoding;  // one call of encode
  void append_stretch(std::string_view text, std::size_t pass, Encoding& encoding) const;
  void append_text(std::string_view text, Encoding& encoding) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::array<SpecialTokens, 2> special_;  // [pass]: the second one sees what the first one leaves
  std::variant<Bpe, Spm, CharBpe> encoder_;
  std::optional<Token> bos_, eos_;
  std::unordered_set<Token> ends_;
  bool add_bos_, add_eos_, strip_first_space_;
  SpacePrefix prefix_;
};

// With the model's token for the beginning of a text if it asks for one, unless the text spells it.
std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text, bool parse_special, bool with_bos);

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
