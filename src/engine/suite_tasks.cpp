// SPDX-License-Identifier: Apache-2.0
// What each spec does to tasks: questions with choices, what is hidden in contexts, greedy texts.
#include <utility>

#include "base/error.h"
#include "engine/ask.h"
#include "engine/retrieval.h"
#include "engine/suite_parts.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kSeed = 1;  // of the contexts
constexpr int kQuestions = 2;       // of each context, where a task has several

std::vector<Outcome> same_for_all(std::size_t specs, const Json& values) {
  return std::vector<Outcome>(specs, Outcome{.values = values});
}

Json values_of(const RetrievalScore& score) {
  return {{"found", score.found}, {"kept_fraction", score.kept_fraction}, {"kv_bytes", score.kv_bytes}};
}

std::vector<ContextQuestions> contexts_of(const RetrievalTask& task, int contexts, std::size_t tokens,
                                          const Tokenizer& tokenizer) {
  const auto count = [&](const std::string& text) { return encode(tokenizer, text, true, true).size(); };
  std::vector<ContextQuestions> items;
  items.reserve(static_cast<std::size_t>(contexts));
  for (int i = 0; i < contexts; ++i)
    items.push_back(make_retrieval(task, kSeed, i, {.tokens = tokens, .questions = kQuestions}, count));
  return items;
}

std::vector<Outcome> retrieval(const std::vector<ContextQuestions>& items, const Subject& subject, Specs specs) {
  const Asker asker(subject.model, subject.pool, subject.tokenizer, subject.batch, subject.on_step);
  const RetrievalResult result = measure_retrieval(asker, subject.model.shape(), specs, items);
  const Json head = {{"reported", result.is_reported()},
                     {"dense_found", result.dense_found()},
                     {"contexts", result.items},
                     {"answers", result.answers}};
  std::vector<Outcome> outcomes = same_for_all(specs.size(), head);
  for (std::size_t i = 0; i < result.specs.size(); ++i) {
    const auto& [agnostic, aware] = result.specs[i];
    outcomes[i].values["query_agnostic"] = values_of(agnostic);
    outcomes[i].values["query_aware"] = values_of(aware);
  }
  return outcomes;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json values_of(std::span<const Generated> texts, std::span<const std::string> prompts, bool with_answers) {
  const GenerationScore score = summarize(texts);
  Json samples = Json::array();
  for (std::size_t i = 0; i < texts.size(); ++i)
    samples.push_back({{"prompt", prompts[i]},
                       {"text", texts[i].text},
                       {"rouge_l", texts[i].rouge_l},
                       {"first_difference", or_null(texts[i].first_difference)}});
  return {{"texts", texts.size()},
          {"agreement", with_answers ? Json(score.agreement) : Json(nullptr)},
          {"right", with_answers ? Json(score.right) : Json(nullptr)},
          {"rouge_l", score.rouge_l},
          {"repetition", score.repetition},
          {"same", score.same},
          {"first_difference", or_null(score.first_difference)},
          {"kept_fraction", score.kept_fraction},
          {"kv_bytes", score.kv_bytes},
          {"samples", std::move(samples)}};
}

// The end of what a text continues, to be shown beside it.
std::string end_of(std::span<const Token> prompt, const Tokenizer& tokenizer) {
  constexpr std::size_t kTokens = 32;
  return tokenizer.decode(prompt.last(std::min(kTokens, prompt.size())), true);
}

std::vector<Outcome> generation(const std::vector<GenerationItem>& items, int most, const Subject& subject,
                                Specs specs) {
  const Writer writer(subject.model, subject.pool, subject.tokenizer, subject.batch, subject.on_step);
  std::vector<std::vector<Generated>> texts(specs.size());
  std::vector<std::string> prompts;
  prompts.reserve(items.size());
  for (const GenerationItem& item : items) {
    Writer::Written written = writer.write(specs, item, most);
    for (std::size_t i = 0; i < specs.size(); ++i) texts[i].push_back(std::move(written.specs[i]));
    prompts.push_back(end_of(item.prompt, subject.tokenizer));
  }
  std::vector<Outcome> outcomes;
  outcomes.reserve(texts.size());
  for (const std::vector<Generated>& of_spec : texts)
    outcomes.push_back({.values = values_of(of_spec, prompts, !items.front().answer.empty())});
  return outcomes;
}

}  // namespace

Measurement choice_measurement(ChoiceSet set) {
  double prompts = 0, decoded = 0;
  for (const auto& choices : set.tokens) {
    prompts += static_cast<double>(choices.front().context.size());
    for (const ChoiceTokens& choice : choices) decoded += static_cast<double>(choice.continuation.size());
  }
  std::string name = "choice." + set.task;
  const auto run = [set = std::move(set)](const Subject& subject, Specs specs) {
    std::vector<std::vector<ChoiceScore>> scores(specs.size());
    for (const auto& choices : set.tokens) {
      std::vector<ChoiceScore> of_item = score_choices(subject.model, subject.pool, specs, choices, subject.batch);
      for (std::size_t i = 0; i < specs.size(); ++i) scores[i].push_back(std::move(of_item[i]));
      subject.on_step();
    }
    std::vector<Outcome> outcomes;
    for (const std::vector<ChoiceScore>& of_spec : scores) {
      const ChoiceSummary summary = summarize_choices(set.items, of_spec);
      outcomes.push_back({.values = {{"items", set.items.size()},
                                     {"shots", set.shots},
                                     {"tokens", summary.tokens},
                                     {"accuracy", summary.accuracy.share},
                                     {"accuracy_error", summary.accuracy.error},
                                     {"accuracy_norm", summary.accuracy_norm.share},
                                     {"accuracy_norm_error", summary.accuracy_norm.error},
                                     {"kept_fraction", summary.kept_fraction},
                                     {"kv_bytes", summary.kv_bytes}}});
    }
    return outcomes;
  };
  return {.name = std::move(name), .prompt_tokens = prompts, .decoded_tokens = decoded, .run = run};
}

Measurement retrieval_measurement(const RetrievalTask& task, int contexts, int tokens) {
  constexpr double kAnswerTokens = 16;
  const auto run = [&task, contexts, tokens](const Subject& subject, Specs specs) {
    std::vector<ContextQuestions> items;
    try {
      items = contexts_of(task, contexts, static_cast<std::size_t>(tokens), subject.tokenizer);
    } catch (const Error& error) {  // the task does not fit into so few tokens
      return same_for_all(specs.size(), {{"reported", false}, {"why", error.what()}});
    }
    return retrieval(items, subject, specs);
  };
  return {.name = fmt::format("retrieval.{}", task.name),
          .prompt_tokens = static_cast<double>(contexts) * (1 + kQuestions) * tokens,
          .decoded_tokens = contexts * 2 * kQuestions * kAnswerTokens,
          .run = run};
}

Measurement generation_measurement(std::string name, std::vector<GenerationItem> items, int most) {
  double prompts = 0;
  for (const GenerationItem& item : items) prompts += static_cast<double>(item.prompt.size());
  const double decoded = most * static_cast<double>(items.size());
  const auto run = [items = std::move(items), most](const Subject& subject, Specs specs) {
    return generation(items, most, subject, specs);
  };
  return {.name = std::move(name), .prompt_tokens = prompts, .decoded_tokens = decoded, .run = run};
}

}  // namespace lamina
