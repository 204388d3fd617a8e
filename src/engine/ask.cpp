// SPDX-License-Identifier: Apache-2.0
#include "engine/ask.h"

#include <algorithm>

#include "engine/greedy.h"

namespace lamina {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool holds(const std::string& said, const std::string& answer) {
  const auto same = [](char a, char b) { return lower(a) == lower(b); };
  return std::search(said.begin(), said.end(), answer.begin(), answer.end(), same) != said.end();
}

}  // namespace

double found_share(const std::string& said, const std::vector<std::string>& answers) {
  const auto found = std::ranges::count_if(answers, [&](const std::string& answer) { return holds(said, answer); });
  return static_cast<double>(found) / static_cast<double>(answers.size());
}

std::vector<Answers> Asker::ask(Specs specs, const ContextQuestions& item, Asked when) const {
  std::vector<Answers> all(specs.size(), Answers{.answers = std::vector<Answer>(item.questions.size())});
  const std::vector<Prompt> prompts = this->prompts(item, when);
  for (const Prompt& prompt : prompts)
    for (const std::vector<std::size_t>& group :
         shared_prompts(specs, model_.shape(), static_cast<Pos>(prompt.tokens.size())))
      ask_group(specs, group, item, prompt, all);
  const auto n = static_cast<double>(prompts.size());
  for (Answers& spec : all)
    for (double* const figure : {&spec.kept_fraction, &spec.kv_bytes, &spec.length}) *figure /= n;
  return all;
}

std::vector<Asker::Prompt> Asker::prompts(const ContextQuestions& item, Asked when) const {
  const std::vector<Token> context = encode(tokenizer_, item.context, true, true);
  std::vector<Prompt> prompts;
  for (std::size_t q = 0; q < item.questions.size(); ++q) {
    if (prompts.empty() || when != Asked::kAfterCommit)
      prompts.push_back({.tokens = context, .questions = {}, .given = {}});
    Prompt& prompt = prompts.back();
    const std::vector<Token> question = encode(tokenizer_, item.questions[q].text, true, false);
    const auto after = question.end() - (when == Asked::kAfterCommit    ? std::ssize(question)
                                         : when == Asked::kBeforeCommit ? 1
                                                                        : 0);
    prompt.tokens.insert(prompt.tokens.end(), question.begin(), after);
    prompt.questions.push_back(q);
    prompt.given.emplace_back(after, question.end());
  }
  return prompts;
}

Pos Asker::tokens(const ContextQuestions& item) const {
  std::size_t most = 0;
  for (const Question& q : item.questions)
    most = std::max(most, encode(tokenizer_, q.text, true, false).size() + static_cast<std::size_t>(q.tokens));
  return static_cast<Pos>(encode(tokenizer_, item.context, true, true).size() + most);
}

void Asker::ask_group(Specs specs, std::span<const std::size_t> group, const ContextQuestions& item,
                      const Prompt& prompt, std::vector<Answers>& to) const {
  const auto step_done = [this] {
    if (progress_) progress_();
    return true;
  };
  Prompted prompted = prompt_all(model_, pool_, specs, group, tokens(item), batch_, prompt.tokens,
                                 [&](std::size_t) { return step_done(); });
  struct Target {
    const Question& question;
    Answer& answer;
  };
  std::vector<Target> asked;
  std::vector<Continuation> continuations;
  for (std::size_t member = 0; member < group.size(); ++member) {
    const KvSequence& kv = prompted.sessions[member].kv();
    Answers& answers = to[group[member]];
    answers.kept_fraction += kv.kept_fraction();
    answers.kv_bytes += static_cast<double>(kv.bytes().total());
    answers.length += kv.length();
    for (std::size_t i = 0; i < prompt.questions.size(); ++i) {
      const std::size_t q = prompt.questions[i];
      Continuation& c = continuations.emplace_back(Continuation{.kv = kv.fork(), .given = prompt.given[i], .said = {}});
      if (c.given.empty()) c.said.push_back(most_likely(prompted.logits));
      asked.push_back({item.questions[q], answers.answers[q]});
    }
  }
  continue_greedily(model_, pool_, continuations, [&](std::size_t i, std::span<const Token> said) {
    const auto& [question, answer] = asked[i];
    const bool is_over = tokenizer_.is_end_of_generation(said.back());
    answer.said = tokenizer_.decode(is_over ? said.first(said.size() - 1) : said, true);
    answer.score = found_share(answer.said, question.answers);
    step_done();
    return is_over || answer.score == 1 || said.size() >= static_cast<std::size_t>(question.tokens);
  });
}

}  // namespace lamina
