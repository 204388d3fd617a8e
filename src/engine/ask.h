// SPDX-License-Identifier: Apache-2.0
// Questions about a context, asked of a cache under several specs. The ways differ in what the token policy sees before
// it chooses the rows that live on.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/shared_prompt.h"
#include "model/forward.h"
#include "text/tokenizer.h"

namespace lamina {

struct Question {
  std::string text;                  // ends with the answer's beginning
  std::vector<std::string> answers;  // strings that the answer should hold
  int tokens = 0;                    // most that it may take
  double depth = 0;                  // where in the context the first of them stands, 0: at the start, 1: at the end
};

struct ContextQuestions {
  std::string context;  // says nothing of which questions will come
  std::vector<Question> questions;
  int line = 0;  // of the file it was read from
};

enum class Asked : std::uint8_t {
  // The context is the prompt; each question goes on from a copy of the committed cache ("query-agnostic": the cache
  // serves questions that nobody knew).
  kAfterCommit,
  // Context and question but its last token are one prompt ("query-aware"). That token comes after the commit, so that
  // all of the answer is read from the committed cache.
  kBeforeCommit,
  // The same with the last token: the answer's first token comes from the dense prompt, and all of a short answer may.
  kInPrompt,
};

// The share of the strings that a text holds, whatever the case of ASCII letters.
double found_share(const std::string& said, const std::vector<std::string>& answers);

struct Answer {
  std::string said;  // to the token that made the score 1, if it came so far
  double score = 0;  // found_share
};
struct Answers {                // of one spec
  std::vector<Answer> answers;  // [question]
  // Of the cache after the commit, averaged over its prompts.
  double kept_fraction = 0, kv_bytes = 0, length = 0;
};

class Asker {
 public:
  // Called after each step. It may throw to end the work.
  using OnProgress = std::function<void()>;

  Asker(Model& model, ThreadPool& pool, const Tokenizer& tokenizer, int batch, OnProgress progress = {})
      : model_(model), pool_(pool), tokenizer_(tokenizer), batch_(batch), progress_(std::move(progress)) {}

  // [spec] Greedy answers. Specs that agree on a prompt share it.
  std::vector<Answers> ask(Specs specs, const ContextQuestions& item, Asked when) const;
  // Tokens of a context with its longest question and answer.
  Pos tokens(const ContextQuestions& item) const;

 private:
  struct Prompt {
    std::vector<Token> tokens;
    std::vector<std::size_t> questions;     // that follow it
    std::vector<std::vector<Token>> given;  // [of these] what of each comes after the commit
  };
  std::vector<Prompt> prompts(const ContextQuestions& item, Asked when) const;
  void ask_group(Specs specs, std::span<const std::size_t> group, const ContextQuestions& item, const Prompt& prompt,
                 std::vector<Answers>& to) const;

  Model& model_;
  ThreadPool& pool_;
  const Tokenizer& tokenizer_;
  int batch_;
  OnProgress progress_;
};

}  // namespace lamina
