// SPDX-License-Identifier: Apache-2.0
// Multiple choice by log-likelihood, as lm-evaluation-harness scores it, on a cache that a spec has folded: the context
// but its last token is a prompt, the policy commits, then that token and a choice's are fed one by one. Every choice
// goes on from the same state. Scores do not depend on the number of threads nor on the other specs.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/choice_task.h"
#include "engine/shared_prompt.h"
#include "model/forward.h"

namespace lamina {

struct ChoiceTokens {
  std::vector<Token> context, continuation;  // neither is empty
};

struct ChoiceEncoder {
  std::function<std::vector<Token>(const std::string& text)> encode;  // with BOS where the model asks for it
  std::optional<Token> start;  // what stands for an empty context: BOS, or EOS where there is none
};

// [choice] White space at the end of a context goes to the continuation; this is what the tokens of both together have
// beyond as many as the context has. Error if a choice needs more than `context` tokens, the last of which is not fed.
std::vector<ChoiceTokens> encode_choices(const ChoiceItem& item, const ChoiceEncoder& encoder, Pos context);

struct ChoiceScore {
  std::vector<double> log_likelihoods;  // [choice], natural logarithm
  // After the prompt, averaged over the item's contexts.
  double tokens = 0, kept_fraction = 0, kv_bytes = 0;
};

// [spec] The scores of one item.
std::vector<ChoiceScore> score_choices(Model& model, ThreadPool& pool, Specs specs,
                                       std::span<const ChoiceTokens> choices, int batch);

// The choice whose log-likelihood is the highest, the first of equals; by character: divided by its characters.
std::size_t chosen(const ChoiceScore& score);
std::size_t chosen_by_character(const ChoiceScore& score, const ChoiceItem& item);

struct ChoiceSummary {
  struct Share {
    double share = 0, error = 0;  // of right answers, and the standard error of that
  };
  Share accuracy, accuracy_norm;
  double tokens = 0, kept_fraction = 0, kv_bytes = 0;  // means over the items
};
ChoiceSummary summarize_choices(std::span<const ChoiceItem> items, std::span<const ChoiceScore> scores);

}  // namespace lamina
