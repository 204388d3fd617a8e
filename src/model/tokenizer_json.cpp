// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_json.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/mapped_file.h"
#include "model/json_field.h"
#include "model/tokenizer_steps.h"

namespace lamina {
namespace {

using nlohmann::json;

constexpr std::size_t kMostJsonBytes = std::size_t{256} << 20;  // Gemma 3's 262144 tokens take 33 MB

// ---- files ----------------------------------------------------------------------------------------------------------

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// Null if the folder has no such file.
json read_member(const std::string& folder, std::string_view name) {
  const std::string path = fmt::format("{}/{}", folder, name);
  return exists(path) ? read_json(path, kMostJsonBytes) : json();
}

JsonField field_of(const TokenizerFiles& files, std::string_view name, const json& value) {
  return {fmt::format("{}/{}", files.folder, name), value};
}

// ---- vocabulary -----------------------------------------------------------------------------------------------------

// The vocabulary as it grows, and ids by the text that the files name them by.
class Tokens {
 public:
  explicit Tokens(const JsonField& vocab) : vocab_(vocab) {
    if (!vocab.json().is_object() || vocab.json().empty()) vocab.refuse("an object of tokens and their ids");
    const auto count = vocab.json().size();
    require(count < (1U << 30), "{}: model.vocab has {} entries", vocab.file(), count);
    texts_.resize(count);
    std::vector<bool> taken(count);
    for (const auto& [text, id] : vocab.json().get_ref<const json::object_t&>()) {
      const auto token = integer_below(id, static_cast<std::int64_t>(count));
      if (!token) refuse(text, id, fmt::format("an id from 0 to {}", count - 1));
      if (taken[*token]) refuse(text, id, fmt::format("another id than {} has", shown(json(texts_[*token]))));
      taken[*token] = true;
      texts_[*token] = text;
    }
  }

  std::optional<Token> find(std::string_view text) const {
    const auto& vocab = vocab_.json().get_ref<const json::object_t&>();
    if (const auto found = vocab.find(text); found != vocab.end()) return found->second.get<Token>();
    const auto found = added_.find(text);
    return found == added_.end() ? std::nullopt : std::optional(found->second);
  }

  // The id of an added token: what the vocabulary has for its text, else the next one.
  Token add(std::string_view text) {
    if (const auto known = find(text)) return *known;
    const auto token = static_cast<Token>(texts_.size());
    texts_.push_back(text);
    added_.emplace(text, token);
    return token;
  }

  std::size_t size() const { return texts_.size(); }
  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  [[noreturn]] void refuse(const std::string& text, const json& id, const std::string& expected) const {
    fail("{}: model.vocab: {} is {}, expected {}", vocab_.file(), shown(json(text)), shown(id), expected);
  }

  JsonField vocab_;
  std::vector<std::string_view> texts_;  // [token]; views into the files
  std::unordered_map<std::string_view, Token> added_;
};

std::vector<AddedToken> read_added(const JsonField& field, bool has_normalizer, Tokens& tokens) {
  std::vector<AddedToken> out;
  if (field.is_null()) return out;
  std::vector<bool> seen;
  for (const JsonField& item : field.items()) {
    const JsonField content = item.get("content"), id = item.get("id"), late = item.get("normalized");
    AddedToken added;
    added.text = content.string();
    if (added.text.empty()) content.refuse("text");
    added.token = tokens.add(added.text);
    if (id.integer(std::int64_t{1} << 30) != added.token)
      id.refuse(fmt::format("{}, what the vocabulary has for {} or its next id", added.token, shown(content.json())));
    seen.resize(tokens.size());
    if (seen[added.token]) content.refuse("each token once");
    seen[added.token] = true;
    added.user_defined = !item.get("special").boolean(false);
    added.takes_left = item.get("lstrip").boolean(false);
    added.takes_right = item.get("rstrip").boolean(false);
    added.late = late.boolean(added.user_defined);
    if (added.late && has_normalizer) late.refuse("false: matching in normalized text is not supported");
    if (item.get("single_word").boolean(false)) item.get("single_word").refuse("false");
    out.push_back(added);
  }
  return out;
}

// ---- model ----------------------------------------------------------------------------------------------------------

void check_model(const JsonField& model) {
  if (model.is_null()) model.refuse("an object");
  // Files from before 2020 have no type.
  if (!model.get("type").is_null() && model.type() != "BPE") model.get("type").refuse("\"BPE\"");
  const JsonField dropout = model.get("dropout");
  const bool is_off = dropout.is_null() || (dropout.json().is_number() && dropout.json().get<double>() == 0);
  if (!is_off) dropout.refuse("none");
  for (const auto* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonField affix = model.get(key);
    if (!affix.is_null() && !affix.string().empty()) affix.refuse("none");
  }
}

// "left right" or [left, right].
std::pair<std::string_view, std::string_view> merge_pair(const JsonField& merges, std::size_t rank) {
  const json& merge = merges.json()[rank];
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos)
      return {text.substr(0, space), text.substr(space + 1)};
  }
  fail("{}: model.merges[{}] is {}, expected two tokens", merges.file(), rank, shown(merge));
}

std::vector<MergeRule> read_merges(const JsonField& merges, const Tokens& tokens) {
  if (!merges.json().is_array()) merges.refuse("an array");
  std::vector<MergeRule> rules;
  rules.reserve(merges.json().size());
  std::string merged;
  for (std::size_t rank = 0; rank < merges.json().size(); ++rank) {
    const auto [left, right] = merge_pair(merges, rank);
    merged = left;
    merged += right;
    const auto left_id = tokens.find(left), right_id = tokens.find(right), merged_id = tokens.find(merged);
    if (!left_id || !right_id || !merged_id)
      fail("{}: model.merges[{}] is {}, expected tokens of model.vocab that make a third", merges.file(), rank,
           shown(merges.json()[rank]));
    rules.push_back({*left_id, *right_id, *merged_id});
  }
  return rules;
}

// Byte pieces, so that nothing is unknown.
void mark_bytes(const JsonField& model, const Tokens& tokens, std::vector<TokenType>& types) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = fmt::format("<0x{:02X}>", byte);
    const auto token = tokens.find(text);
    if (!token) fail("{}: model.byte_fallback is true, but model.vocab has no {}", model.file(), text);
    types[*token] = TokenType::kByte;
  }
}

void read_char_model(const JsonField& model, const Tokens& tokens, TokenizerData& data) {
  if (model.get("byte_fallback").boolean(false)) mark_bytes(model, tokens, data.types);
  if (model.get("ignore_merges").boolean(false)) model.get("ignore_merges").refuse("false without ByteLevel");
  data.char_bpe->fuse_unk = model.get("fuse_unk").boolean(false);
  // No text has a space any more when it gets to the merges.
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens.texts()[i].find(' ') != std::string_view::npos) data.types[i] = TokenType::kUnused;
  const JsonField unk = model.get("unk_token");
  if (unk.is_null()) return;
  data.unk = tokens.find(unk.string());
  if (!data.unk) unk.refuse("a token of model.vocab");
}

// An unk is for bytes without a token; Bpe drops these instead.
void read_byte_model(const JsonField& model, const Tokens& tokens, TokenizerData& data) {
  if (model.get("byte_fallback").boolean(false)) model.get("byte_fallback").refuse("false beside ByteLevel");
  data.bpe->ignore_merges = model.get("ignore_merges").boolean(false);
  std::set<std::string> single;
  for (const std::string_view text : tokens.texts()) {
    std::string bytes;
    if (text.size() <= 2) append_byte_level(bytes, text);
    if (bytes.size() == 1) single.insert(bytes);
  }
  const JsonField unk = model.get("unk_token");
  if (!unk.is_null() && single.size() < 256) unk.refuse("none: some bytes have no token");
}

// ---- the files beside tokenizer.json --------------------------------------------------------------------------------

// A token by its text, or as an object with its text.
std::optional<Token> named_token(const JsonField& field, const Tokens& tokens) {
  if (field.is_null()) return std::nullopt;
  const JsonField text = field.json().is_object() ? field.get("content") : field;
  const auto token = tokens.find(text.string());
  if (!token) text.refuse("a token of tokenizer.json");
  return token;
}

// "bos" or "eos": from the first file that has it.
std::optional<Token> special_token(const TokenizerFiles& files, const std::string& name, const Tokens& tokens) {
  const std::string key = name + "_token";
  for (const auto& [file, value] : {std::pair("tokenizer_config.json", &files.tokenizer_config),
                                    std::pair("special_tokens_map.json", &files.special_tokens_map)}) {
    if (const auto token = named_token(field_of(files, file, *value).get(key), tokens)) return token;
  }
  const JsonField id = field_of(files, "generation_config.json", files.generation_config).get(key + "_id");
  if (id.is_null() || id.json().is_array()) return std::nullopt;
  return static_cast<Token>(id.integer(static_cast<std::int64_t>(tokens.size())));
}

// generation_config.json: one id or several.
std::vector<Token> generation_ends(const TokenizerFiles& files, std::size_t tokens) {
  const JsonField field = field_of(files, "generation_config.json", files.generation_config).get("eos_token_id");
  if (field.is_null()) return {};
  std::vector<Token> ends;
  for (const JsonField& id : field.json().is_array() ? field.items() : std::vector{field})
    ends.push_back(static_cast<Token>(id.integer(static_cast<std::int64_t>(tokens))));
  return ends;
}

// tokenizer_config.json's word on adding BOS and EOS goes before the post_processor, as in transformers.
void read_ends(const TokenizerFiles& files, const TokenizerSteps& steps, const Tokens& tokens, TokenizerData& data) {
  data.bos = special_token(files, "bos", tokens);
  data.eos = special_token(files, "eos", tokens);
  data.ends = generation_ends(files, tokens.size());
  const JsonField config = field_of(files, "tokenizer_config.json", files.tokenizer_config);
  const JsonField add_bos = config.get("add_bos_token"), add_eos = config.get("add_eos_token");
  if (!add_bos.is_null() || !add_eos.is_null()) {
    data.add_bos = add_bos.boolean(false) && data.bos;
    data.add_eos = add_eos.boolean(false) && data.eos;
    return;
  }
  const auto settle = [&](std::string_view name, std::optional<Token> added, std::optional<Token>& token) {
    if (added && token && added != token)
      fail("{}/tokenizer.json: post_processor adds token {}, but {} is {}", files.folder, *added, name, *token);
    if (added) token = added;
    return added.has_value();
  };
  data.add_bos = settle("bos_token", steps.bos, data.bos);
  data.add_eos = settle("eos_token", steps.eos, data.eos);
}

// BOS and EOS are special tokens even where tokenizer.json does not add them as such.
void add_ends(TokenizerData& data) {
  for (const auto& token : {data.bos, data.eos}) {
    const bool known =
        !token || std::ranges::any_of(data.added, [&](const AddedToken& added) { return added.token == *token; });
    if (!known) data.added.push_back({.text = data.tokens[*token], .token = *token});
  }
}

}  // namespace

Tokenizer make_tokenizer(const TokenizerFiles& files) {
  const JsonField root = field_of(files, "tokenizer.json", files.tokenizer);
  if (root.is_null()) fail("{}: no tokenizer.json in it", files.folder);
  const JsonField model = root.get("model");
  check_model(model);
  Tokens tokens(model.get("vocab"));
  TokenizerData data;
  data.source = root.file();
  data.merge_rules = read_merges(model.get("merges"), tokens);
  data.added = read_added(root.get("added_tokens"), !root.get("normalizer").is_null(), tokens);
  data.tokens = tokens.texts();
  data.types.assign(tokens.size(), TokenType::kNormal);
  const TokenizerSteps steps = read_tokenizer_steps(root, tokens.size());
  data.bpe = steps.bpe;
  data.char_bpe = steps.char_bpe;
  data.model = data.bpe ? "gpt2" : "llama";
  data.prefix = steps.prefix;
  data.strip_first_space = steps.strip_first_space;
  if (data.bpe) {
    read_byte_model(model, tokens, data);
  } else {
    read_char_model(model, tokens, data);
  }
  read_ends(files, steps, tokens, data);
  add_ends(data);
  for (const AddedToken& token : data.added)
    data.types[token.token] = token.user_defined ? TokenType::kUserDefined : TokenType::kControl;
  return Tokenizer(data);
}

Tokenizer load_tokenizer_json(const std::string& folder) {
  return make_tokenizer({.folder = folder,
                         .tokenizer = read_member(folder, "tokenizer.json"),
                         .tokenizer_config = read_member(folder, "tokenizer_config.json"),
                         .special_tokens_map = read_member(folder, "special_tokens_map.json"),
                         .generation_config = read_member(folder, "generation_config.json")});
}

std::string chat_template_of(const std::string& folder) {
  const std::string path = folder + "/chat_template.jinja";
  if (exists(path)) return read_text(path, kMostJsonBytes);
  const json config = read_member(folder, "tokenizer_config.json");
  const JsonField field = JsonField(folder + "/tokenizer_config.json", config).get("chat_template");
  if (field.is_null()) return "";
  if (!field.json().is_array()) return std::string(field.string());
  for (const JsonField& named : field.items()) {
    if (named.get("name").string() == "default") return std::string(named.get("template").string());
  }
  field.refuse("a template of the name default");
}

}  // namespace lamina
