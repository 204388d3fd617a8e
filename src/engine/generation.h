// SPDX-License-Identifier: Apache-2.0
// Greedy texts under KV specs beside the dense cache's: the answers to sums in words (GSM8K) and the continuations of a
// text. A text that differs need not be worse; how it differs is told, and the texts are kept to be looked at.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/shared_prompt.h"
#include "model/forward.h"
#include "text/tokenizer.h"

namespace lamina {

struct GenerationItem {
  std::vector<Token> prompt;
  std::string answer;               // the reference's final number; empty: there is none
  std::vector<std::string> ends{};  // strings that end a text, and are cut off with what follows
};

// The items of a file of GSM8K's form, an object with "question" and "answer" a line: the first `shots` are shown in
// each prompt, the following are asked, `limit` at most (0: all). Error that names the line.
struct QuestionItem {
  std::string prompt, answer;  // the answer's final number
  int line = 0;                // of the file
};
struct QuestionChoice {
  int shots = 0, limit = 0;
};
std::vector<QuestionItem> read_questions(const std::string& path, const std::string& text,
                                         const QuestionChoice& choice);
// The number that an answer ends with: after "####" where that stands, else the last; without separators of thousands
// and without what follows the decimal point where that is zeros. Empty: it names none.
std::string final_number(const std::string& answer);

// An item's continuation under one spec, and how it differs from the dense cache's.
struct Generated {
  std::string text;
  std::vector<Token> tokens;                           // as they were said, the one that ends a generation left out
  double kept_fraction = 1, kv_bytes = 0, length = 0;  // of the cache after the prompt

  double rouge_l = 1;                             // F1 over words
  double repetition = 0;                          // share of the 4-grams of tokens that came before in it
  std::optional<std::size_t> first_difference{};  // none: the tokens are the same
  std::string answer{};                           // where the item has one: the final number
  bool agrees = false;                            // that number is the dense cache's
  bool is_right = false;                          // or the reference's
};

// Over the items.
struct GenerationScore {
  double rouge_l = 0, repetition = 0, same = 0, agreement = 0, right = 0;  // same: share of texts that do not differ
  std::optional<double> first_difference{};                                // median of those that do
  double kept_fraction = 0, kv_bytes = 0, length = 0;
};
GenerationScore summarize(std::span<const Generated> items);

class Writer {
 public:
  using OnProgress = std::function<void()>;  // called after each step; it may throw to end the work

  Writer(Model& model, ThreadPool& pool, const Tokenizer& tokenizer, int batch, OnProgress progress = {})
      : model_(model), pool_(pool), tokenizer_(tokenizer), batch_(batch), progress_(std::move(progress)) {}

  // The greedy continuations of at most `most` tokens. Specs that agree on the prompt share it.
  struct Written {
    Generated dense;
    std::vector<Generated> specs;  // [spec]
  };
  Written write(Specs specs, const GenerationItem& item, int most) const;

 private:
  void write_group(Specs specs, std::span<const std::size_t> group, const GenerationItem& item, int most,
                   std::vector<Generated>& to) const;

  Model& model_;
  ThreadPool& pool_;
  const Tokenizer& tokenizer_;
  int batch_;
  OnProgress progress_;
};

}  // namespace lamina
