// SPDX-License-Identifier: Apache-2.0
#include "engine/generation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "engine/greedy.h"
#include "engine/statistics.h"
#include "engine/text_overlap.h"

namespace lamina {
namespace {

constexpr std::size_t kRepeated = 4;  // tokens

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct QuestionLine {
  std::string question, answer;
  int line = 0;
};

std::vector<QuestionLine> question_lines(const std::string& path, const std::string& text) {
  std::vector<QuestionLine> all;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    require(!json.is_discarded(), "{}: line {}: not JSON, expected an object with \"question\" and \"answer\"", path,
            number);
    const auto field = [&](const char* name) {
      const bool has = json.is_object() && json.contains(name) && json[name].is_string();
      require(has, "{}: line {}: no string \"{}\", expected an object with \"question\" and \"answer\"", path, number,
              name);
      return json[name].get<std::string>();
    };
    all.push_back({.question = field("question"), .answer = field("answer"), .line = number});
    require(!final_number(all.back().answer).empty(), "{}: line {}: \"answer\" names no number", path, number);
  }
  return all;
}

// The number that begins at or after `at`.
std::string number_from(const std::string& text, std::size_t at) {
  while (at < text.size() && !is_digit(text[at])) ++at;
  if (at == text.size()) return {};
  std::string number = at > 0 && text[at - 1] == '-' ? "-" : "", fraction;
  const auto digit = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  for (; digit(at) || (at < text.size() && text[at] == ',' && digit(at + 1)); ++at)
    if (text[at] != ',') number += text[at];
  if (at < text.size() && text[at] == '.')
    for (++at; digit(at); ++at) fraction += text[at];
  while (fraction.ends_with('0')) fraction.pop_back();
  return fraction.empty() ? number : number + '.' + fraction;
}

// Where the last number of a text begins.
std::size_t last_number(const std::string& text) {
  std::size_t at = text.find_last_of("0123456789");
  if (at == std::string::npos) return text.size();
  const auto goes_on = [&](std::size_t i) {
    return is_digit(text[i]) || ((text[i] == ',' || text[i] == '.') && i > 0 && is_digit(text[i - 1]));
  };
  while (at > 0 && goes_on(at - 1)) --at;
  return at;
}

void compare(const GenerationItem& item, const Generated& dense, Generated& text) {
  text.rouge_l = rouge_l(dense.text, text.text);
  text.repetition = repeated_ngrams(text.tokens, kRepeated);
  text.first_difference = first_difference(dense.tokens, text.tokens);
  if (item.answer.empty()) return;
  text.answer = final_number(text.text);
  text.agrees = text.answer == final_number(dense.text);
  text.is_right = text.answer == item.answer;
}

}  // namespace

std::string final_number(const std::string& answer) {
  const std::size_t mark = answer.rfind("####");
  const std::string marked = mark == std::string::npos ? "" : number_from(answer, mark);
  return marked.empty() ? number_from(answer, last_number(answer)) : marked;
}

std::vector<QuestionItem> read_questions(const std::string& path, const std::string& text,
                                         const QuestionChoice& choice) {
  const std::vector<QuestionLine> lines = question_lines(path, text);
  const auto shots = static_cast<std::size_t>(choice.shots);
  require(lines.size() > shots, "{}: {} questions, {} of them are to be shown, expected more (see --shots)", path,
          lines.size(), shots);
  std::string shown;
  for (std::size_t i = 0; i < shots; ++i)
    shown += fmt::format("Question: {}\nAnswer: {}\n\n", lines[i].question, lines[i].answer);
  std::vector<QuestionItem> items;
  for (std::size_t i = shots; i < lines.size(); ++i) {
    if (choice.limit > 0 && items.size() == static_cast<std::size_t>(choice.limit)) break;
    items.push_back({.prompt = fmt::format("{}Question: {}\nAnswer:", shown, lines[i].question),
                     .answer = final_number(lines[i].answer),
                     .line = lines[i].line});
  }
  return items;
}

GenerationScore summarize(std::span<const Generated> items) {
  GenerationScore score;
  std::vector<double> differences;
  const auto n = static_cast<double>(items.size());
  for (const Generated& item : items) {
    score.rouge_l += item.rouge_l / n;
    score.repetition += item.repetition / n;
    score.agreement += item.agrees / n;
    score.right += item.is_right / n;
    score.kept_fraction += item.kept_fraction / n;
    score.kv_bytes += item.kv_bytes / n;
    score.length += item.length / n;
    if (item.first_difference) differences.push_back(static_cast<double>(*item.first_difference));
  }
  score.same = 1 - static_cast<double>(differences.size()) / n;
  if (!differences.empty()) score.first_difference = quantile(std::move(differences), 0.5);
  return score;
}

Writer::Written Writer::write(Specs specs, const GenerationItem& item, int most) const {
  const auto [all, dense] = WithDense(specs, model_.shape());
  std::vector<Generated> texts(all.size());
  const auto context = static_cast<Pos>(item.prompt.size()) + most;
  for (const std::vector<std::size_t>& group : shared_prompts(all, model_.shape(), context))
    write_group(all, group, item, most, texts);
  for (Generated& text : texts) compare(item, texts[dense], text);
  Generated full = texts[dense];
  texts.resize(specs.size());
  return {.dense = std::move(full), .specs = std::move(texts)};
}

void Writer::write_group(Specs specs, std::span<const std::size_t> group, const GenerationItem& item, int most,
                         std::vector<Generated>& to) const {
  const auto step_done = [this] {
    if (progress_) progress_();
    return true;
  };
  const auto context = static_cast<Pos>(item.prompt.size()) + most;
  Prompted prompted =
      prompt_all(model_, pool_, specs, group, context, batch_, item.prompt, [&](std::size_t) { return step_done(); });
  std::vector<Continuation> continuations;
  for (std::size_t member = 0; member < group.size(); ++member) {
    KvSequence& kv = prompted.sessions[member].kv();
    Generated& text = to[group[member]];
    text.kept_fraction = kv.kept_fraction();
    text.kv_bytes = static_cast<double>(kv.bytes().total());
    text.length = kv.length();
    continuations.push_back({.kv = kv.fork(), .given = {}, .said = {most_likely(prompted.logits)}});
  }
  continue_greedily(model_, pool_, continuations, [&](std::size_t i, std::span<const Token> said) {
    Generated& text = to[group[i]];
    const bool is_over = tokenizer_.is_end_of_generation(said.back());
    const std::span<const Token> tokens = is_over ? said.first(said.size() - 1) : said;
    text.tokens.assign(tokens.begin(), tokens.end());
    text.text = tokenizer_.decode(tokens, true);
    std::size_t end = std::string::npos;
    for (const std::string& mark : item.ends) end = std::min(end, text.text.find(mark));
    if (end != std::string::npos) text.text.resize(end);
    step_done();
    return is_over || end != std::string::npos || said.size() >= static_cast<std::size_t>(most);
  });
}

}  // namespace lamina
