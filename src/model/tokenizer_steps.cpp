// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_steps.h"

#include <algorithm>
#include <array>
#include <utility>

namespace lamina {
namespace {

// A chain: null, one step, or a Sequence of steps under `key`.
std::vector<JsonField> chain(const JsonField& field, const std::string& key) {
  if (field.is_null()) return {};
  if (field.type() == "Sequence") return field.get(key).items();
  return {field};
}

void expect_string(const JsonField& field, std::string_view expected) {
  if (field.string() != expected) field.refuse(shown(nlohmann::json(expected)));
}

// {"String": text}, as against a regular expression.
void expect_pattern(const JsonField& field, std::string_view text) { expect_string(field.get("String"), text); }

// ---- normalizer
// -------------------------------------------------------------------------------------------------------
struct Normalizer {
  bool nfc = false, prepend = false, replace = false;
};

Normalizer read_normalizer(const JsonField& field) {
  Normalizer normalizer;
  for (const JsonField& step : chain(field, "normalizers")) {
    const std::string_view type = step.type();
    if (type == "NFC") {
      normalizer.nfc = true;
    } else if (type == "Prepend") {
      expect_string(step.get("prepend"), kMetaspace);
      normalizer.prepend = true;
    } else if (type == "Replace") {
      expect_pattern(step.get("pattern"), " ");
      expect_string(step.get("content"), kMetaspace);
      normalizer.replace = true;
    } else {
      step.get("type").refuse("NFC, Prepend or Replace");
    }
  }
  return normalizer;
}

// ---- pre_tokenizer
// ---------------------------------------------------------------------------------------------------- The expressions
// of tokenizer.json, word for word; what follows from them is in text/pretokenize.cpp.
constexpr auto kExpressions = std::to_array<std::pair<std::string_view, PreTokenizer>>({
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", PreTokenizer::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kLlamaBpe},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kQwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     PreTokenizer::kTekken},
});

PreTokenizer by_expression(const JsonField& split) {
  expect_string(split.get("behavior"), "Isolated");
  if (split.get("invert").boolean(false)) split.get("invert").refuse("false");
  const JsonField regex = split.get("pattern").get("Regex");
  const std::string_view text = regex.string();
  const auto* const found = std::find_if(kExpressions.begin(), kExpressions.end(),
                                         [&](const auto& expression) { return expression.first == text; });
  if (found == kExpressions.end())
    fail("{}: pre_tokenizer has the regular expression {}, expected that of GPT-2, Llama 3, Qwen 2 or tekken",
         regex.file(), regex.json().dump(-1, ' ', true));
  return found->second;
}

// `steps` end with ByteLevel.
PreTokenizer byte_level(const JsonField& field, const std::vector<JsonField>& steps) {
  const JsonField& last = steps.back();
  if (last.get("add_prefix_space").boolean(true)) last.get("add_prefix_space").refuse("false");
  const bool by_gpt2 = last.get("use_regex").boolean(true);
  if (steps.size() == 1 && by_gpt2) return PreTokenizer::kGpt2;
  if (steps.size() == 2 && steps[0].type() == "Split" && !by_gpt2) return by_expression(steps[0]);
  if (steps.size() == 2 && steps[0].type() == "Digits" && by_gpt2) {
    const JsonField individual = steps[0].get("individual_digits");
    if (!individual.boolean(false)) individual.refuse("true");
    return PreTokenizer::kSmolLM;
  }
  field.refuse(
      "ByteLevel alone or behind Digits, with use_regex, or behind Split, without it; of one or two steps in all");
}

SpacePrefix metaspace_prefix(const JsonField& step) {
  expect_string(step.get("replacement"), kMetaspace);
  const JsonField scheme = step.get("prepend_scheme");
  if (scheme.is_null())  // as files from before 2024 have it
    return step.get("add_prefix_space").boolean(true) ? SpacePrefix::kUnlessSpace : SpacePrefix::kNever;
  const std::string_view name = scheme.string();
  if (name == "always") return SpacePrefix::kUnlessSpace;
  if (name == "first") return SpacePrefix::kAtStartUnlessSpace;
  if (name != "never") scheme.refuse("always, first or never");
  return SpacePrefix::kNever;
}

// Spaces become U+2581 in the normalizer or in the pre_tokenizer.
void read_char_steps(const JsonField& field, const std::vector<JsonField>& steps, const Normalizer& normalizer,
                     TokenizerSteps& out) {
  out.char_bpe = CharBpeOptions{};
  const bool is_metaspace = steps.size() == 1 && steps[0].type() == "Metaspace";
  const bool is_split = steps.size() == 1 && steps[0].type() == "Split";
  if (is_metaspace && !normalizer.prepend) {
    out.prefix = metaspace_prefix(steps[0]);
    out.char_bpe->split_at_spaces = steps[0].get("split").boolean(true);
    return;
  }
  if (is_split) {  // Gemma's: after Replace there is no space to split at
    expect_pattern(steps[0].get("pattern"), " ");
    if (steps[0].get("invert").boolean(false)) steps[0].get("invert").refuse("false");
  }
  if (!normalizer.replace || (!steps.empty() && !is_split))
    field.refuse("ByteLevel at the end, Metaspace, or none beside a normalizer with Replace");
  if (normalizer.prepend) out.prefix = SpacePrefix::kAlways;
}

// ---- decoder: it follows from the rest, but for the first space
// ---------------------------------------------------------
void check_byte_level_decoder(const JsonField& field) {
  if (field.is_null()) field.refuse("ByteLevel");
  if (field.type() != "ByteLevel") field.get("type").refuse("ByteLevel");
}

// Replace, ByteFallback, Fuse, Strip: each may be missing, but for the first.
bool strips_first_space(const JsonField& field) {
  if (field.is_null()) field.refuse("a Sequence with Replace, or Metaspace");
  if (field.type() == "Metaspace") return metaspace_prefix(field) != SpacePrefix::kNever;
  constexpr auto kOrder = std::to_array<std::string_view>({"Replace", "ByteFallback", "Fuse", "Strip"});
  const auto* at = kOrder.begin();
  bool replaces = false, strips = false;
  for (const JsonField& step : chain(field, "decoders")) {
    const std::string_view type = step.type();
    at = std::find(at, kOrder.end(), type);
    if (at == kOrder.end()) step.get("type").refuse("Replace, ByteFallback, Fuse or Strip, in this order");
    ++at;
    if (type == "Replace") {
      expect_pattern(step.get("pattern"), kMetaspace);
      expect_string(step.get("content"), " ");
      replaces = true;
    } else if (type == "Strip") {
      expect_string(step.get("content"), " ");
      strips = step.get("start").integer(2) == 1;
      step.get("stop").integer(1);
    }
  }
  if (!replaces) field.refuse("a Sequence with Replace, or Metaspace");
  return strips;
}

// ---- post_processor
// ---------------------------------------------------------------------------------------------------
Token template_token(const JsonField& processor, const JsonField& special, std::size_t tokens) {
  const auto name = std::string(special.get("id").string());
  const JsonField ids = processor.get("special_tokens").get(name).get("ids");
  const auto items = ids.items();
  if (items.size() != 1) ids.refuse("one id");
  return static_cast<Token>(items[0].integer(static_cast<std::int64_t>(tokens)));
}

// At most one token before the text, and one behind it.
void read_template(const JsonField& processor, std::size_t tokens, TokenizerSteps& out) {
  out.has_template = true;
  bool seen_text = false;
  for (const JsonField& item : processor.get("single").items()) {
    if (!item.get("Sequence").is_null()) {
      expect_string(item.get("Sequence").get("id"), "A");
      if (seen_text) item.refuse("the text once");
      seen_text = true;
      continue;
    }
    std::optional<Token>& place = seen_text ? out.eos : out.bos;
    if (place) item.refuse("at most one special token before the text, and one behind it");
    place = template_token(processor, item.get("SpecialToken"), tokens);
  }
  if (!seen_text) processor.get("single").refuse("a Sequence: the text");
}

void read_post_processor(const JsonField& field, std::size_t tokens, TokenizerSteps& out) {
  for (const JsonField& step : chain(field, "processors")) {
    if (step.type() == "ByteLevel") continue;  // is about offsets
    if (step.type() != "TemplateProcessing" || out.has_template)
      step.get("type").refuse("ByteLevel, or TemplateProcessing once");
    read_template(step, tokens, out);
  }
}

}  // namespace

std::string_view expression_of(PreTokenizer pre) {
  const auto* const found = std::find_if(kExpressions.begin(), kExpressions.end(),
                                         [&](const auto& expression) { return expression.second == pre; });
  return found == kExpressions.end() ? "" : found->first;
}

TokenizerSteps read_tokenizer_steps(const JsonField& root, std::size_t tokens) {
  TokenizerSteps out;
  const JsonField normalizer_field = root.get("normalizer");
  const Normalizer normalizer = read_normalizer(normalizer_field);
  const JsonField field = root.get("pre_tokenizer");
  const std::vector<JsonField> steps = chain(field, "pretokenizers");
  if (!steps.empty() && steps.back().type() == "ByteLevel") {
    if (normalizer.prepend || normalizer.replace) normalizer_field.refuse("NFC or none beside ByteLevel");
    out.bpe = BpeOptions{.pre = byte_level(field, steps), .nfc = normalizer.nfc};
    check_byte_level_decoder(root.get("decoder"));
  } else {
    if (normalizer.nfc) normalizer_field.refuse("no NFC: pre_tokenizer is not ByteLevel");
    read_char_steps(field, steps, normalizer, out);
    out.strip_first_space = strips_first_space(root.get("decoder"));
  }
  read_post_processor(root.get("post_processor"), tokens, out);
  return out;
}

}  // namespace lamina
