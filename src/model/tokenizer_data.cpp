// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_data.h"

#include <limits>

#include "base/error.h"

namespace lamina {
namespace {

std::optional<Token> token_id(const GgufFile& file, std::string_view key) {
  if (!file.has(key)) return std::nullopt;
  const std::int64_t id = file.integer(key);
  require(id >= 0 && id <= std::numeric_limits<Token>::max(), "{}: {} is {}, expected a token id", file.path(), key,
          id);
  return static_cast<Token>(id);
}

std::vector<TokenType> token_types(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  std::vector<TokenType> types;
  if (!file.has(kKey)) return types;
  for (const std::int64_t type : file.integers(kKey)) {
    require(type >= 1 && type <= 6, "{}: {}[{}] is {}, expected 1 to 6", file.path(), kKey, types.size(), type);
    types.push_back(static_cast<TokenType>(type));
  }
  return types;
}

// Old files of these families carry no add_bos_token, and their models need it.
bool adds_bos_by_default(const TokenizerData& data) {
  const auto pre = find_pre_tokenizer(data.pre);
  return data.model == "llama" || pre == PreTokenizer::kLlamaBpe || pre == PreTokenizer::kTekken;
}

}  // namespace

TokenizerData tokenizer_data(const GgufFile& file) {
  TokenizerData data;
  data.source = file.path();
  data.model = file.string("tokenizer.ggml.model");
  const bool spm = data.model == "llama";
  data.pre = file.string("tokenizer.ggml.pre", "default");
  data.tokens = file.strings("tokenizer.ggml.tokens");
  data.types = token_types(file);
  if (spm) {
    data.scores = file.numbers("tokenizer.ggml.scores");
  } else {
    data.merges = file.strings("tokenizer.ggml.merges");
  }
  data.bos = token_id(file, "tokenizer.ggml.bos_token_id");
  data.eos = token_id(file, "tokenizer.ggml.eos_token_id");
  data.unk = token_id(file, "tokenizer.ggml.unknown_token_id");
  data.eot = token_id(file, "tokenizer.ggml.eot_token_id");
  data.eom = token_id(file, "tokenizer.ggml.eom_token_id");
  data.add_bos = file.boolean("tokenizer.ggml.add_bos_token", adds_bos_by_default(data));
  data.add_eos = file.boolean("tokenizer.ggml.add_eos_token", false);
  data.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix", spm);
  require(!file.boolean("tokenizer.ggml.remove_extra_whitespaces", false) || !spm,
          "{}: tokenizer.ggml.remove_extra_whitespaces is true, which is not supported", file.path());
  return data;
}

Tokenizer load_tokenizer(const ModelFile& file) {
  if (file.gguf() == nullptr) fail("{}: tokenizers of Hugging Face folders are not read yet", file.path());
  return Tokenizer(tokenizer_data(*file.gguf()));
}

std::string chat_template(const ModelFile& file) {
  if (file.gguf() == nullptr) return "";
  return std::string(file.gguf()->string("tokenizer.chat_template", ""));
}

}  // namespace lamina
