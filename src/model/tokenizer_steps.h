// SPDX-License-Identifier: Apache-2.0
// What tokenizer.json puts around its model: normalizer, pre_tokenizer, post_processor and decoder, which may be any
// chain of steps there. The chains of the models that we run are known here; others are an Error that shows the step.
#pragma once
#include <optional>
#include <string_view>

#include "model/json_field.h"
#include "text/tokenizer.h"

namespace lamina {

struct TokenizerSteps {
  std::optional<BpeOptions> bpe;  // one of the two; ignore_merges and fuse_unk are the model's to set
  std::optional<CharBpeOptions> char_bpe;
  SpacePrefix prefix = SpacePrefix::kNever;
  bool strip_first_space = false;
  bool has_template = false;      // of a post_processor, which decides about the next two
  std::optional<Token> bos, eos;  // the tokens that it adds
};

// `root`: tokenizer.json. Ids of the post_processor are below `tokens`.
TokenizerSteps read_tokenizer_steps(const JsonField& root, std::size_t tokens);

// The regular expression of the Split step that stands for a pre-tokenizer, "" for kSmolLM, which is two steps.
std::string_view expression_of(PreTokenizer pre);

}  // namespace lamina
