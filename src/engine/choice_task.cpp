// SPDX-License-Identifier: Apache-2.0
#include "engine/choice_task.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/jinja/unicode.h"

namespace lamina {
namespace {

using jinja::capitalize;
using jinja::character_bytes;
using jinja::count_characters;
using jinja::strip;

constexpr std::string_view kDelimiter = " ";  // between a context and what follows

ChoiceItem item(const std::string& context, const std::vector<std::string>& choices, std::size_t answer) {
  ChoiceItem made{.choices = {}, .answer = answer};
  for (const std::string& choice : choices)
    made.choices.push_back({context, std::string(kDelimiter) + choice, count_characters(choice)});
  return made;
}

// A number below n, as such or in a string: data sets have both.
std::size_t label(const JsonField& field, std::size_t n) {
  if (!field.json().is_string()) return static_cast<std::size_t>(field.integer(static_cast<std::int64_t>(n)));
  const std::string_view text = field.string();
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number >= n)
    field.refuse(fmt::format("a label from 0 to {}", n - 1));
  return number;
}

std::string text_of(const JsonField& field) { return std::string(field.string()); }

std::vector<std::string> texts_of(const JsonField& field, std::size_t least) {
  std::vector<std::string> texts;
  for (const JsonField& text : field.items()) texts.push_back(text_of(text));
  if (texts.size() < least) field.refuse(fmt::format("at least {} strings", least));
  return texts;
}

// A question whose choices have letters or numbers for names.
struct Lettered {
  std::string question;
  std::vector<std::string> choices;
  std::size_t answer = 0;
};

// {question, choices: {text: [], label: []}, answerKey}, or AI2's {question: {stem, choices: [{text, label}]},
// answerKey}.
Lettered lettered(const JsonField& line, const std::string& question) {
  Lettered read;
  std::vector<std::string> labels;
  if (const JsonField stem = line.get("question"); stem.json().is_object()) {
    read.question = text_of(stem.get("stem"));
    for (const JsonField& choice : stem.get("choices").items()) {
      read.choices.push_back(text_of(choice.get("text")));
      labels.push_back(text_of(choice.get("label")));
    }
    if (labels.size() < 2) stem.get("choices").refuse("at least 2 choices");
  } else {
    read.question = text_of(line.get(question));
    read.choices = texts_of(line.get("choices").get("text"), 2);
    labels = texts_of(line.get("choices").get("label"), 2);
    if (labels.size() != read.choices.size())
      line.get("choices").get("label").refuse(fmt::format("{} labels, one of each text", read.choices.size()));
  }
  const JsonField key = line.get("answerKey");
  const auto found = std::ranges::find(labels, jinja::strip_left(key.string()));
  if (found == labels.end()) key.refuse(fmt::format("one of {}", fmt::join(labels, ", ")));
  read.answer = static_cast<std::size_t>(found - labels.begin());
  return read;
}

ChoiceItem piqa(const JsonField& line) {
  return item(fmt::format("Question: {}\nAnswer:", line.get("goal").string()),
              {text_of(line.get("sol1")), text_of(line.get("sol2"))}, label(line.get("label"), 2));
}

ChoiceItem arc(const JsonField& line) {
  const Lettered read = lettered(line, "question");
  return item(fmt::format("Question: {}\nAnswer:", read.question), read.choices, read.answer);
}

ChoiceItem openbookqa(const JsonField& line) {
  const Lettered read = lettered(line, "question_stem");
  return item(read.question, read.choices, read.answer);
}

// The choices are in the prompt, their letters are what is scored.
ChoiceItem commonsenseqa(const JsonField& line) {
  const Lettered read = lettered(line, "question");
  if (read.choices.size() != 5) line.get("choices").refuse("five choices");
  std::string context = fmt::format("Question: {}\n", strip(read.question));
  std::vector<std::string> letters;
  for (const std::string& choice : read.choices) {
    letters.emplace_back(1, static_cast<char>('A' + letters.size()));
    context += fmt::format("{}. {}\n", letters.back(), choice);
  }
  return item(context + "Answer:", letters, read.answer);
}

// Partial scoring (arXiv:1806.02847): the choices fill a blank of the context, what follows is scored.
ChoiceItem with_contexts(const std::vector<std::string>& contexts, std::string_view rest, std::size_t answer) {
  ChoiceItem made{.choices = {}, .answer = answer};
  for (const std::string& context : contexts)
    made.choices.push_back({context, std::string(kDelimiter).append(rest), count_characters(rest)});
  return made;
}

// {sentence with a "_", option1, option2, answer: "1" or "2"}, or {context_options: [], continuation, gold: 0 or 1}.
ChoiceItem winogrande(const JsonField& line) {
  if (const JsonField options = line.get("context_options"); !options.is_null()) {
    const std::vector<std::string> contexts = texts_of(options, 2);
    return with_contexts(contexts, line.get("continuation").string(), label(line.get("gold"), contexts.size()));
  }
  const std::string_view sentence = line.get("sentence").string();
  const std::size_t blank = sentence.find('_');
  if (blank == std::string_view::npos) line.get("sentence").refuse("a \"_\" in it");
  std::vector<std::string> contexts;
  for (const char* const option : {"option1", "option2"})
    contexts.push_back(std::string(sentence.substr(0, blank)).append(line.get(option).string()));
  const JsonField answer = line.get("answer");
  if (answer.string() != "1" && answer.string() != "2") answer.refuse("\"1\" or \"2\"");
  return with_contexts(contexts, strip(sentence.substr(blank + 1)), answer.string() == "1" ? 0 : 1);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// The data's WikiHow half has headings and notes in brackets.
std::string without_brackets(std::string_view raw) {
  std::string text(strip(raw));
  replace_all(text, " [title]", ". ");
  for (std::size_t open = text.find('['); open != std::string::npos; open = text.find('[', open)) {
    const std::size_t close = text.find_first_of("]\n", open);
    if (close != std::string::npos && text[close] == ']')
      text.erase(open, close - open + 1);
    else
      ++open;
  }
  replace_all(text, "  ", " ");
  return text;
}

ChoiceItem hellaswag(const JsonField& line) {
  std::vector<std::string> endings = texts_of(line.get("endings"), 2);
  for (std::string& ending : endings) ending = without_brackets(ending);
  return item(without_brackets(fmt::format("{}: {} {}", line.get("activity_label").string(), line.get("ctx_a").string(),
                                           capitalize(line.get("ctx_b").string()))),
              endings, label(line.get("label"), endings.size()));
}

// label: 0 or 1 as in SuperGLUE, false or true; or answer: false or true, as the authors have it.
ChoiceItem boolq(const JsonField& line) {
  const JsonField given = line.get(line.get("label").is_null() ? "answer" : "label");
  if (given.is_null()) line.get("label").refuse("0 or 1, or true or false in \"answer\"");
  return item(fmt::format("{}\nQuestion: {}?\nAnswer:", line.get("passage").string(), line.get("question").string()),
              {"no", "yes"}, given.json().is_boolean() ? (given.boolean(false) ? 1 : 0) : label(given, 2));
}

// The premise without its period, a connector and the choice, behind two spaces: one is the choice's own.
ChoiceItem copa(const JsonField& line) {
  const JsonField kind = line.get("question");
  const bool is_cause = kind.string() == "cause";
  if (!is_cause && kind.string() != "effect") kind.refuse("\"cause\" or \"effect\"");
  std::vector<std::string_view> premise = jinja::characters(strip(line.get("premise").string()));
  if (premise.size() < 2) line.get("premise").refuse("a sentence");
  premise.pop_back();
  std::vector<std::string> choices;
  for (const char* const name : {"choice1", "choice2"}) {
    const std::string_view choice = line.get(name).string();
    if (choice.empty()) line.get(name).refuse("a text");
    const std::size_t first = character_bytes(choice, 0);
    choices.push_back(fmt::format(" {}{}", jinja::lower(choice.substr(0, first)), choice.substr(first)));
  }
  return item(fmt::format("{} {}", fmt::join(premise, ""), is_cause ? "because" : "therefore"), choices,
              label(line.get("label"), 2));
}

}  // namespace

const std::vector<ChoiceTask>& choice_tasks() {
  static const std::vector<ChoiceTask> kTasks{{"piqa", piqa},
                                              {"winogrande", winogrande},
                                              {"arc_easy", arc},
                                              {"arc_challenge", arc},
                                              {"hellaswag", hellaswag},
                                              {"boolq", boolq},
                                              {"openbookqa", openbookqa},
                                              {"copa", copa},
                                              {"commonsenseqa", commonsenseqa}};
  return kTasks;
}

const ChoiceTask& choice_task(const std::string& name) {
  std::vector<std::string> names;
  for (const ChoiceTask& task : choice_tasks()) {
    if (task.name == name) return task;
    names.push_back(task.name);
  }
  fail("task \"{}\" is unknown, expected one of {}", name, fmt::join(names, ", "));
}

}  // namespace lamina
