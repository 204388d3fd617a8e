// SPDX-License-Identifier: Apache-2.0
// The tokenizer that a Hugging Face folder carries: tokenizer.json, and what the files beside it say of BOS, EOS and
// the chat template. Byte-level BPE and BPE over characters with U+2581 for the space; all else is refused.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "text/tokenizer.h"

namespace lamina {

Tokenizer load_tokenizer_json(const std::string& folder);

// The chat template of the folder, "" if there is none.
std::string chat_template_of(const std::string& folder);

// The files as JSON; null: there is no such file.
struct TokenizerFiles {
  std::string folder;  // named in errors
  nlohmann::json tokenizer, tokenizer_config, special_tokens_map, generation_config;
};
Tokenizer make_tokenizer(const TokenizerFiles& files);

}  // namespace lamina
