// SPDX-License-Identifier: Apache-2.0
#include "engine/retrieval.h"

#include <algorithm>

namespace lamina {
namespace {

using SpecList = std::vector<std::shared_ptr<const KvSpec>>;

void add(RetrievalScore& to, const Answers& of, double items) {
  for (const Answer& answer : of.answers) to.found += answer.score / (items * static_cast<double>(of.answers.size()));
  to.kept_fraction += of.kept_fraction / items;
  to.kv_bytes += of.kv_bytes / items;
  to.length += of.length / items;
}

// [spec] the scores of the specs at `which`, added to `scores`.
void measure(const Asker& asker, const SpecList& all, std::span<const std::size_t> which,
             std::span<const ContextQuestions> items, const OnAnswer& on_answer, std::vector<ScoresByAsked>& scores) {
  SpecList specs;
  for (const std::size_t i : which) specs.push_back(all[i]);
  for (const ContextQuestions& item : items)
    for (const Asked when : {Asked::kAfterCommit, Asked::kBeforeCommit}) {
      const std::vector<Answers> asked = asker.ask(specs, item, when);
      for (std::size_t i = 0; i < which.size(); ++i) {
        add(scores[which[i]][static_cast<std::size_t>(when)], asked[i], static_cast<double>(items.size()));
        for (std::size_t q = 0; on_answer && q < item.questions.size(); ++q)
          on_answer({.spec = *specs[i], .question = item.questions[q], .answer = asked[i].answers[q], .when = when});
      }
    }
}

}  // namespace

double RetrievalResult::dense_found() const { return std::min(dense[0].found, dense[1].found); }

RetrievalResult measure_retrieval(const Asker& asker, const KvShape& shape, Specs specs,
                                  std::span<const ContextQuestions> items, const OnAnswer& on_answer) {
  const auto [all, dense] = WithDense(specs, shape);
  std::vector<std::size_t> with_dense, others;
  for (std::size_t i = 0; i < all.size(); ++i) (all[i]->same_prompt(*all[dense]) ? with_dense : others).push_back(i);

  RetrievalResult result{.items = items.size()};
  for (const ContextQuestions& item : items) result.answers += item.questions.size();
  std::vector<ScoresByAsked> scores(all.size());
  measure(asker, all, with_dense, items, on_answer, scores);
  result.dense = scores[dense];
  if (!result.is_reported()) return result;
  measure(asker, all, others, items, on_answer, scores);
  scores.resize(specs.size());
  result.specs = std::move(scores);
  return result;
}

}  // namespace lamina
