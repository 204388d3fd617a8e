// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace lamina {
namespace {

// Control tokens that end a turn or a text in the model families that we run; files name only some of them by key.
constexpr std::array<std::string_view, 12> kEndTexts = {
    "</s>",       "<eos>",         "<|endoftext|>",   "<|end_of_text|>", "<|im_end|>", "<|eot_id|>",
    "<|eom_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>",         "<EOT>",      "<|end▁of▁sentence|>"};

void check_id(const TokenizerData& data, std::string_view key, std::optional<Token> id) {
  if (!id) return;
  require(*id >= 0 && static_cast<std::size_t>(*id) < data.tokens.size(),
          "{}: tokenizer.ggml.{} is {}, expected less than the {} tokens", data.source, key, *id, data.tokens.size());
}

void check(const TokenizerData& data) {
  const std::size_t count = data.tokens.size();
  require(data.model == "gpt2" || data.model == "llama",
          "{}: tokenizer.ggml.model is \"{}\", expected \"gpt2\" or \"llama\"", data.source, data.model);
  require(count > 0 && count < (1U << 30), "{}: tokenizer.ggml.tokens has {} entries", data.source, count);
  require(data.types.empty() || data.types.size() == count, "{}: tokenizer.ggml.token_type has {} entries, expected {}",
          data.source, data.types.size(), count);
  require(data.model != "llama" || data.char_bpe || data.scores.size() == count,
          "{}: tokenizer.ggml.scores has {} entries, expected {}", data.source, data.scores.size(), count);
  check_id(data, "bos_token_id", data.bos);
  check_id(data, "eos_token_id", data.eos);
  check_id(data, "unknown_token_id", data.unk);
  check_id(data, "eot_token_id", data.eot);
  check_id(data, "eom_token_id", data.eom);
}

std::variant<Bpe, Spm, CharBpe> make_encoder(const TokenizerData& data,
                                             const std::shared_ptr<const Vocabulary>& vocabulary) {
  if (data.char_bpe) return CharBpe(vocabulary, data.merge_rules, *data.char_bpe, data.unk);
  if (data.model == "llama") return Spm(vocabulary, data.scores, data.unk);
  const BpeOptions options = bpe_options(data);
  if (data.bpe) return Bpe(vocabulary, data.merge_rules, options);
  return Bpe(vocabulary, merge_rules(*vocabulary, data.merges, data.source), options);
}

std::array<SpecialTokens, 2> make_special(const TokenizerData& data, const Vocabulary& vocabulary) {
  if (!data.bpe && !data.char_bpe) return {SpecialTokens(vocabulary, data.unk, data.model != "llama"), {}};
  std::array<std::vector<AddedToken>, 2> passes;
  for (const AddedToken& added : data.added) passes[added.late ? 1 : 0].push_back(added);
  return {SpecialTokens(passes[0]), SpecialTokens(passes[1])};
}

std::shared_ptr<const Vocabulary> make_vocabulary(const TokenizerData& data) {
  check(data);
  const Spelling spelling = data.model == "llama" ? Spelling::kMetaspace : Spelling::kByteLevel;
  return std::make_shared<const Vocabulary>(spelling, data.tokens, data.types);
}

}  // namespace

BpeOptions bpe_options(const TokenizerData& data) {
  if (data.bpe) return *data.bpe;
  const auto pre = find_pre_tokenizer(data.pre);
  require(pre.has_value(), "{}: tokenizer.ggml.pre is \"{}\", expected gpt-2, smollm, llama-bpe, qwen2 or tekken",
          data.source, data.pre);
  return {.pre = *pre,
          .nfc = data.pre == "qwen2",  // its distillates have the expression, not the normalizer
          .ignore_merges = *pre == PreTokenizer::kLlamaBpe || *pre == PreTokenizer::kTekken};
}

Tokenizer::Tokenizer(const TokenizerData& data)
    : vocabulary_(make_vocabulary(data)),
      special_(make_special(data, *vocabulary_)),
      encoder_(make_encoder(data, vocabulary_)),
      bos_(data.bos),
      eos_(data.eos),
      add_bos_(data.add_bos),
      add_eos_(data.add_eos),
      strip_first_space_(data.strip_first_space),
      prefix_(data.prefix) {
  ends_.insert(data.ends.begin(), data.ends.end());
  for (const auto& id : {data.eos, data.eot, data.eom}) {
    if (id) ends_.insert(*id);
  }
  for (const std::string_view text : kEndTexts) {
    const auto token = find_special(text);
    if (token && type(*token) == TokenType::kControl) ends_.insert(*token);
  }
}

struct Tokenizer::Encoding {
  std::string_view text;
  Match match;
  WordCache cache = {};
  std::vector<Token> out = {};
};

std::vector<Token> Tokenizer::encode(std::string_view text, bool parse_special) const {
  Encoding encoding{.text = text, .match = parse_special ? Match::kControlToo : Match::kUserDefined};
  encoding.out.reserve(text.size() / 3);
  append_stretch(text, 0, encoding);
  return std::move(encoding.out);
}

void Tokenizer::append_stretch(std::string_view text, std::size_t pass, Encoding& encoding) const {
  if (pass == special_.size()) return append_text(text, encoding);
  std::size_t begin = 0;
  while (const auto found = special_[pass].next(text, begin, encoding.match)) {
    append_stretch(text.substr(begin, found->begin - begin), pass + 1, encoding);
    encoding.out.push_back(found->token);
    begin = found->end;
  }
  append_stretch(text.substr(begin), pass + 1, encoding);
}

void Tokenizer::append_text(std::string_view text, Encoding& encoding) const {
  if (text.empty()) return;
  const bool has_space = text.starts_with(' ') || text.starts_with(kMetaspace);
  const bool at_start = text.data() == encoding.text.data();
  const bool prefixed = prefix_ == SpacePrefix::kAlways || (prefix_ == SpacePrefix::kUnlessSpace && !has_space) ||
                        (prefix_ == SpacePrefix::kAtStartUnlessSpace && at_start && !has_space);
  std::string spaced;
  if (prefixed) {
    spaced.reserve(text.size() + 1);
    spaced += ' ';
    spaced += text;
    text = spaced;
  }
  std::visit([&](const auto& encoder) { encoder.encode(text, encoding.cache, encoding.out); }, encoder_);
}

std::optional<Token> Tokenizer::find_special(std::string_view text) const {
  const auto found = special_[0].find(text);
  return found ? found : special_[1].find(text);
}

bool Tokenizer::is_special(Token token) const {
  return type(token) == TokenType::kControl || type(token) == TokenType::kUnknown;
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool show_special) const {
  std::string out;
  bool at_start = strip_first_space_;
  for (const Token token : tokens) {
    if (is_special(token) && !show_special) continue;
    std::string_view bytes = piece(token);
    if (at_start && !is_special(token)) {
      if (bytes.starts_with(' ')) bytes.remove_prefix(1);
      at_start = false;
    }
    out += bytes;
  }
  return out;
}

std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text, bool parse_special, bool with_bos) {
  std::vector<Token> tokens = tokenizer.encode(text, parse_special);
  if (with_bos && tokenizer.add_bos() && tokenizer.bos() && (tokens.empty() || tokens.front() != *tokenizer.bos()))
    tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

std::string Detokenizer::push(Token token) {
  if (tokenizer_.is_special(token) && !show_special_) return {};
  pending_ += tokenizer_.piece(token);
  std::string out;
  std::size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Char c = decode_utf8(pending_, at);
    if (c.status == Utf8Status::kIncomplete) break;
    append_utf8(out, c.code);
    at += c.bytes;
  }
  pending_.erase(0, at);
  return out;
}

std::string Detokenizer::flush() {
  std::string out = pending_.empty() ? "" : "\uFFFD";
  pending_.clear();
  return out;
}

}  // namespace lamina
