// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_writer.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "base/error.h"
#include "model/tokenizer_data.h"
#include "model/tokenizer_steps.h"
#include "text/unicode.h"

namespace lamina {
namespace {

using nlohmann::json;

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.status != Utf8Status::kValid) return false;
    at += c.bytes;
  }
  return true;
}

json vocabulary_of(const TokenizerData& data) {
  json vocab = json::object();
  for (std::size_t token = 0; token < data.tokens.size(); ++token) {
    const std::string text(data.tokens[token]);
    require(is_utf8(text), "token {} is not UTF-8", token);
    const auto [known, is_new] = vocab.emplace(text, token);
    require(is_new, "tokens {} and {} are both {}", shown(*known), token, shown(json(text)));
  }
  return vocab;
}

json merges_of(const TokenizerData& data) {
  json merges = json::array();
  for (const std::string_view merge : data.merges) {
    require(is_utf8(merge) && std::ranges::count(merge, ' ') == 1,
            "tokenizer.ggml.merges[{}] is not two pieces of UTF-8", merges.size());
    merges.push_back(merge);
  }
  return merges;
}

// What is matched in a text before all else, as SpecialTokens reads it from the types.
json added_tokens(const TokenizerData& data) {
  json added = json::array();
  for (std::size_t token = 0; token < data.types.size(); ++token) {
    const TokenType type = data.types[token];
    const bool is_unk = type == TokenType::kUnknown && data.unk == static_cast<Token>(token);
    const bool special = type == TokenType::kControl || is_unk;
    if (data.tokens[token].empty() || (!special && type != TokenType::kUserDefined)) continue;
    added.push_back({{"id", token},
                     {"content", data.tokens[token]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

json pre_tokenizer(PreTokenizer pre) {
  json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  if (pre == PreTokenizer::kGpt2) return bytes;
  json first = {{"type", "Digits"}, {"individual_digits", true}};
  if (pre != PreTokenizer::kSmolLM) {
    first = {
        {"type", "Split"}, {"pattern", {{"Regex", expression_of(pre)}}}, {"behavior", "Isolated"}, {"invert", false}};
    bytes["use_regex"] = false;
  }
  return {{"type", "Sequence"}, {"pretokenizers", json::array({first, bytes})}};
}

// BOS and EOS around a text, for readers that do not look at tokenizer_config.json.
json post_processor(const TokenizerData& data) {
  const bool bos = data.add_bos && data.bos, eos = data.add_eos && data.eos;
  if (!bos && !eos) return nullptr;
  json special = json::object();
  const auto around = [&](int sequence, const char* name) {
    json items = json::array();
    const auto add = [&](Token token) {
      const std::string text(data.tokens[static_cast<std::size_t>(token)]);
      items.push_back({{"SpecialToken", {{"id", text}, {"type_id", sequence}}}});
      special[text] = {{"id", text}, {"ids", json::array({token})}, {"tokens", json::array({text})}};
    };
    if (bos) add(*data.bos);
    items.push_back({{"Sequence", {{"id", name}, {"type_id", sequence}}}});
    if (eos) add(*data.eos);
    return items;
  };
  const json single = around(0, "A");
  json pair = single;
  for (const json& item : around(1, "B")) pair.push_back(item);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

json tokenizer_json(const TokenizerData& data) {
  const BpeOptions options = bpe_options(data);
  const json decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", options.ignore_merges},
                      {"vocab", vocabulary_of(data)},
                      {"merges", merges_of(data)}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(data)},
          {"normalizer", options.nfc ? json{{"type", "NFC"}} : json(nullptr)},
          {"pre_tokenizer", pre_tokenizer(options.pre)},
          {"post_processor", post_processor(data)},
          {"decoder", decoder},
          {"model", model}};
}

json tokenizer_config(const TokenizerData& data, const GgufFile& file) {
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", data.add_bos && data.bos},
                 {"add_eos_token", data.add_eos && data.eos}};
  const auto name = [&](const char* key, const std::optional<Token>& token) {
    if (token) config[key] = data.tokens[static_cast<std::size_t>(*token)];
  };
  name("bos_token", data.bos);
  name("eos_token", data.eos);
  name("unk_token", data.unk);
  const std::string_view chat = file.string("tokenizer.chat_template", "");
  if (!chat.empty()) {
    require(is_utf8(chat), "tokenizer.chat_template is not UTF-8");
    config["chat_template"] = chat;
  }
  return config;
}

json generation_config(const TokenizerData& data) {
  json config = json::object();
  if (data.bos) config["bos_token_id"] = *data.bos;
  std::set<Token> ends;
  for (const auto& token : {data.eos, data.eot, data.eom})
    if (token) ends.insert(*token);
  if (!ends.empty()) config["eos_token_id"] = ends;
  return config;
}

}  // namespace

TokenizerFiles tokenizer_files(const GgufFile& file) {
  const TokenizerData data = tokenizer_data(file);
  require(data.model == "gpt2", "{}: its tokenizer is of the kind \"{}\", which tokenizer.json cannot be made from",
          file.path(), data.model);
  const Tokenizer original(data);  // checks the ids
  TokenizerFiles files;
  files.folder = file.path();
  try {
    files.tokenizer = tokenizer_json(data);
    files.tokenizer_config = tokenizer_config(data, file);
    files.generation_config = generation_config(data);
  } catch (const Error& error) {
    fail("{}: its tokenizer cannot be written as tokenizer.json: {}", file.path(), error.what());
  }
  make_tokenizer(files);  // what this program cannot read again nobody is given
  return files;
}

}  // namespace lamina
