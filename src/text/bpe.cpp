// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace lamina {

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const MergeRule> merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(options), merges_(merges) {
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_tokens_[byte] = vocabulary_->find({&c, 1});
  }
}

std::vector<MergeRule> merge_rules(const Vocabulary& vocabulary, std::span<const std::string_view> merges,
                                   const std::string& source) {
  std::vector<MergeRule> rules;
  rules.reserve(merges.size());
  std::string bytes;
  for (const std::string_view merge : merges) {
    const std::size_t space = merge.find(' ', 1);
    require(space != std::string_view::npos, "{}: tokenizer.ggml.merges[{}] is \"{}\", expected two pieces", source,
            rules.size(), merge);
    bytes.clear();
    append_byte_level(bytes, merge.substr(0, space));
    const std::size_t left_bytes = bytes.size();
    append_byte_level(bytes, merge.substr(space + 1));
    const std::string_view merged = bytes;
    const MergeRule rule{vocabulary.find(merged.substr(0, left_bytes)), vocabulary.find(merged.substr(left_bytes)),
                         vocabulary.find(merged)};
    require(rule.left != kNoToken && rule.right != kNoToken && rule.merged != kNoToken,
            "{}: tokenizer.ggml.merges[{}] is \"{}\", expected pieces of tokenizer.ggml.tokens", source, rules.size(),
            merge);
    rules.push_back(rule);
  }
  return rules;
}

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
  merge_symbols(buffers, [&](const Symbol& left, const Symbol& right) { return merges_.find(left.id, right.id); });
  for (const Symbol& symbol : buffers.symbols) {
    if (symbol.begin != symbol.end) out.push_back(symbol.id);
  }
}

}  // namespace lamina
