// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers of byte-level BPE: they cut a text into the words inside which merges may happen. Each is a
// hand-written scanner that equals the regular expression of its models' tokenizer.json and runs in linear time.
// Characters that Unicode got after 15.0 (Debian 12's ICU) count as symbols, while newer tables know their classes.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace lamina {

enum class PreTokenizer : std::uint8_t { kGpt2, kSmolLM, kLlamaBpe, kQwen2, kTekken };

// By the names of tokenizer.ggml.pre; none for an unknown name.
std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name);

// The end offset of each word; the words cover the text. A byte that is not UTF-8 counts as a symbol.
std::vector<std::uint32_t> word_ends(PreTokenizer pre, std::string_view text);

}  // namespace lamina
