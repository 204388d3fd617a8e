// SPDX-License-Identifier: Apache-2.0
// Retrieval: a number is hidden in a text that says nothing, and asked for at its end (the task of arXiv:2305.16300).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/shared_prompt.h"
#include "model/forward.h"

namespace lamina {

struct PasskeyItem {
  std::string text;    // ends with the question
  std::string answer;  // five digits
  double depth = 0;    // where the number stands, 0: at the start, 1: at the end
};

// Item `index` of a seed, of at most `tokens` tokens as `count` counts them and nearly as many. Its depth is at random.
// Error if the task does not fit into so few.
using CountTokens = std::function<std::size_t(const std::string& text)>;
PasskeyItem make_passkey(std::uint64_t seed, int index, std::size_t tokens, const CountTokens& count);

// The items of a file, an object with "input" and "target" a line. Where an input does not end with a question (KIVI's
// examples do not) one is added. Error that names the line.
std::vector<PasskeyItem> read_passkeys(const std::string& path, const std::string& text);

struct PasskeyResult {
  bool found = false;
  std::string said;
  double kept_fraction = 1;
  std::size_t kv_bytes = 0;
  Pos length = 0;
};

// [spec] Feeds the item as a prompt and decodes greedily, as many tokens as the answer may need.
using Encode = std::function<std::vector<Token>(const std::string& text)>;
using Decode = std::function<std::string(std::span<const Token> tokens)>;
std::vector<PasskeyResult> ask_passkey(Model& model, ThreadPool& pool, Specs specs, const PasskeyItem& item, int batch,
                                       const Encode& encode, const Decode& decode);

}  // namespace lamina
