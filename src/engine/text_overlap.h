// SPDX-License-Identifier: Apache-2.0
// How a generated text differs from another one: ROUGE-L, repeated n-grams, the first token that differs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

// The words of a text for ROUGE: runs of letters and digits (bytes beyond ASCII count as letters), ASCII in lower case.
std::vector<std::string> words_of(std::string_view text);

// F1 of the longest common subsequence of words: of two texts without words 1, of one 0.
double rouge_l(std::string_view reference, std::string_view text);

// The share of the n-grams of tokens that have come before in the text ("seq-rep-n"); 0 of fewer than n tokens.
double repeated_ngrams(std::span<const std::int32_t> tokens, std::size_t n);

// Where two texts part: at the end of the shorter one if it is the beginning of the other; none if they are equal.
std::optional<std::size_t> first_difference(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace lamina
