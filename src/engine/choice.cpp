// SPDX-License-Identifier: Apache-2.0
#include "engine/choice.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/statistics.h"
#include "text/jinja/unicode.h"

namespace lamina {
namespace {

using Indices = std::vector<std::size_t>;

ChoiceTokens encode(const ChoiceItem::Choice& choice, const ChoiceEncoder& encoder) {
  const std::string context(jinja::strip_right(choice.context));
  const std::string whole = choice.context + choice.continuation;
  std::vector<Token> tokens = encoder.encode(whole);
  if (context.empty()) {
    require(encoder.start.has_value(), "the context is empty and the model has no token to begin with");
    if (tokens.empty() || tokens.front() != *encoder.start) tokens.insert(tokens.begin(), *encoder.start);
    return {.context = {*encoder.start}, .continuation = {tokens.begin() + 1, tokens.end()}};
  }
  std::vector<Token> before = encoder.encode(context);
  tokens.erase(tokens.begin(), tokens.begin() + std::min(std::ssize(tokens), std::ssize(before)));
  return {.context = std::move(before), .continuation = std::move(tokens)};
}

// [context] Which choices have it.
std::vector<Indices> by_context(std::span<const ChoiceTokens> choices) {
  std::vector<Indices> contexts;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const auto same = std::ranges::find_if(
        contexts, [&](const Indices& members) { return choices[members.front()].context == choices[i].context; });
    if (same == contexts.end())
      contexts.push_back({i});
    else
      same->push_back(i);
  }
  return contexts;
}

// Choices on their way through the model, all specs' side by side: what a sequence gives does not depend on the others.
class Branches {
 public:
  Branches(Model& model, ThreadPool& pool) : model_(model), pool_(pool) {}

  // Feeds a token to each sequence. Returns the logits after them, [sequence][vocab].
  std::span<const float> feed(std::span<KvSequence* const> sequences, std::span<const Token> tokens) {
    std::vector<Chunk> chunks;
    for (std::size_t i = 0; i < sequences.size(); ++i)
      chunks.push_back({.kv = sequences[i], .tokens = tokens.subspan(i, 1)});
    const auto logits = model_.forward(chunks, work_, pool_);
    for (KvSequence* const kv : sequences) kv->commit(Phase::kDecode, 1, &pool_);
    return logits;
  }

  // A choice that goes on from where the sequence is; `logits` predict its first token.
  void begin(const KvSequence& kv, const ChoiceTokens& choice, std::span<const float> logits, double& log_likelihood) {
    log_likelihood = -score_token(logits, choice.continuation.front()).nll;
    if (choice.continuation.size() > 1) branches_.push_back({kv.fork(), choice.continuation, &log_likelihood});
  }

  void run() {
    for (std::size_t fed = 0; !branches_.empty(); ++fed) {
      step(fed);
      std::erase_if(branches_, [&](const Branch& branch) { return branch.continuation.size() <= fed + 2; });
    }
  }

 private:
  struct Branch {
    KvSequence kv;
    std::span<const Token> continuation;
    double* log_likelihood;
  };

  // Feeds token `at` of each and scores the next one.
  void step(std::size_t at) {
    std::vector<KvSequence*> sequences;
    std::vector<Token> tokens;
    for (Branch& branch : branches_) {
      sequences.push_back(&branch.kv);
      tokens.push_back(branch.continuation[at]);
    }
    const auto logits = feed(sequences, tokens);
    const std::size_t vocab = logits.size() / branches_.size();
    pool_.parallel_for(static_cast<int>(branches_.size()), [&](int task, int) {
      const auto i = static_cast<std::size_t>(task);
      *branches_[i].log_likelihood -=
          score_token(logits.subspan(i * vocab, vocab), branches_[i].continuation[at + 1]).nll;
    });
  }

  Model& model_;
  ThreadPool& pool_;
  Workspace work_;
  std::vector<Branch> branches_;
};

// What one context's choices share.
struct ContextRun {
  Specs specs;
  std::span<const ChoiceTokens> choices;
  const Indices& members;
  std::size_t contexts;  // of the item
  int batch;
};

void note_cache(const KvSequence& kv, std::size_t contexts, ChoiceScore& score) {
  const auto n = static_cast<double>(contexts);
  score.tokens += kv.length() / n;
  score.kept_fraction += kv.kept_fraction() / n;
  score.kv_bytes += static_cast<double>(kv.bytes().total()) / n;
}

// A context of one token is a prompt as it is: without one there would be nothing to commit.
void score_context(Model& model, ThreadPool& pool, const ContextRun& run, const Indices& group, Pos room,
                   std::vector<ChoiceScore>& scores) {
  const std::span<const Token> context = run.choices[run.members.front()].context;
  const std::size_t prompt = std::max<std::size_t>(context.size() - 1, 1);
  Prompted prompted = prompt_all(model, pool, run.specs, group, room, run.batch, context.first(prompt));
  std::vector<KvSequence*> sequences;
  for (std::size_t i = 0; i < group.size(); ++i) {
    sequences.push_back(&prompted.sessions[i].kv());
    note_cache(*sequences[i], run.contexts, scores[group[i]]);
  }
  Branches branches(model, pool);
  const bool is_fed = prompt < context.size();
  const std::vector<Token> last(group.size(), context.back());
  const std::span<const float> logits = is_fed ? branches.feed(sequences, last) : std::span(prompted.logits);
  const std::size_t vocab = prompted.logits.size();
  for (std::size_t i = 0; i < group.size(); ++i)
    for (const std::size_t choice : run.members)
      branches.begin(*sequences[i], run.choices[choice], logits.subspan(is_fed ? i * vocab : 0, vocab),
                     scores[group[i]].log_likelihoods[choice]);
  branches.run();
}

std::size_t highest(std::span<const double> values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

ChoiceSummary::Share share(std::size_t right, std::size_t all) {
  const double n = static_cast<double>(all), p = static_cast<double>(right) / n;
  return {.share = p, .error = all > 1 ? std::sqrt(p * (1 - p) / (n - 1)) : 0};
}

}  // namespace

std::vector<ChoiceTokens> encode_choices(const ChoiceItem& item, const ChoiceEncoder& encoder, Pos context) {
  std::vector<ChoiceTokens> choices;
  for (const ChoiceItem::Choice& choice : item.choices) {
    choices.push_back(encode(choice, encoder));
    const auto& [before, after] = choices.back();
    require(!before.empty() && !after.empty(), "choice {} has no tokens", choices.size());
    require(std::ssize(before) + std::ssize(after) - 1 <= context,
            "choice {} makes {} tokens, the context has {} (see --ctx-size)", choices.size(),
            before.size() + after.size() - 1, context);
  }
  return choices;
}

std::vector<ChoiceScore> score_choices(Model& model, ThreadPool& pool, Specs specs,
                                       std::span<const ChoiceTokens> choices, int batch) {
  std::vector<ChoiceScore> scores(
      specs.size(), {.log_likelihoods = std::vector<double>(choices.size()), .tokens = 0, .kept_fraction = 0});
  const std::vector<Indices> contexts = by_context(choices);
  for (const Indices& members : contexts) {
    std::size_t length = 0;
    for (const std::size_t i : members)
      length = std::max(length, choices[i].context.size() + choices[i].continuation.size());
    // Every choice may come to write all that it shares at first.
    const auto room = static_cast<Pos>(length * (members.size() + 1));
    const ContextRun run{specs, choices, members, contexts.size(), batch};
    for (const Indices& group : shared_prompts(specs, model.shape(), static_cast<Pos>(length)))
      score_context(model, pool, run, group, room, scores);
  }
  for (const ChoiceScore& score : scores)
    for (const double value : score.log_likelihoods)
      require(std::isfinite(value), "a choice's log-likelihood is {}: logits are not finite", value);
  return scores;
}

std::size_t chosen(const ChoiceScore& score) { return highest(score.log_likelihoods); }

std::size_t chosen_by_character(const ChoiceScore& score, const ChoiceItem& item) {
  std::vector<double> values = score.log_likelihoods;
  assert(values.size() == item.choices.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= static_cast<double>(item.choices[i].characters);
  return highest(values);
}

ChoiceSummary summarize_choices(std::span<const ChoiceItem> items, std::span<const ChoiceScore> scores) {
  assert(!items.empty() && items.size() == scores.size());
  ChoiceSummary summary;
  std::size_t right = 0, right_by_character = 0;
  const auto n = static_cast<double>(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    right += chosen(scores[i]) == items[i].answer;
    right_by_character += chosen_by_character(scores[i], items[i]) == items[i].answer;
    summary.tokens += scores[i].tokens / n;
    summary.kept_fraction += scores[i].kept_fraction / n;
    summary.kv_bytes += scores[i].kv_bytes / n;
  }
  summary.accuracy = share(right, items.size());
  summary.accuracy_norm = share(right_by_character, items.size());
  return summary;
}

}  // namespace lamina
