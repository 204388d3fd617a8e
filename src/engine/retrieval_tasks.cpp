// SPDX-License-Identifier: Apache-2.0
#include "engine/retrieval_tasks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/passkey.h"

namespace lamina {
namespace {

constexpr int kNumberTokens = 16;  // five digits, at worst a byte each, and some words before them
constexpr int kWordTokens = 12;

// Lines of a program, as RULER's variables are. In sentences ("The code of Rome is 48213.") SmolLM2-135M finds half of
// 16 codes in 1000 tokens and as many of 8; so written, five of six.
std::string code_of(const std::string& city, const std::string& number) {
  return fmt::format("CODE {} = {}", city, number);
}

// `keys` codes, some of which are asked for.
ContextQuestions codes(RandomText random, int filler, int questions, int keys) {
  const auto n = static_cast<std::size_t>(std::max(keys, questions));
  const std::vector<std::string> cities = random.several(city_names(), n), numbers = random.numbers(n);
  std::vector<std::string> facts;
  facts.reserve(n);
  for (std::size_t i = 0; i < n; ++i) facts.push_back(code_of(cities[i], numbers[i]));
  ContextQuestions item{.context = "Remember the codes in this text.\n", .questions = {}};
  item.context += hide(random, facts, filler, false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(questions); ++i)
    item.questions.push_back({.text = fmt::format("What is the code?\nCODE {} =", cities[i]),
                              .answers = {numbers[i]},
                              .tokens = kNumberTokens});
  return item;
}

ContextQuestions needle(RandomText random, int filler, int questions) { return codes(random, filler, questions, 1); }

ContextQuestions multikey(RandomText random, int filler, int questions) { return codes(random, filler, questions, 16); }

// Several codes of one city. In sentences: written as code_of() does SmolLM2 names the city's none.
ContextQuestions multivalue(RandomText random, int filler, int /*questions*/) {
  constexpr std::size_t kValues = 3;
  const std::string city(random.one(city_names()));
  const std::vector<std::string> numbers = random.numbers(kValues);
  std::vector<std::string> facts;
  facts.reserve(numbers.size());
  for (const std::string& number : numbers) facts.push_back(fmt::format("The code of {} is {}.", city, number));
  return {.context = "Remember the codes of the city in this text.\n" + hide(random, facts, filler, false),
          .questions = {{.text = fmt::format("What are the {1} codes of {0}? The codes of {0} are", city, kValues),
                         .answers = numbers,
                         .tokens = static_cast<int>(kValues) * kNumberTokens}}};
}

// A chain of variables, each of which has the value of the next. The question shows how a chain is told; of two chains
// in a context SmolLM2 mixes the links.
ContextQuestions variables(RandomText random, int filler, int /*questions*/) {
  const std::vector<std::string> names = random.several(city_names(), 4);
  std::vector<std::string> facts;
  for (std::size_t i = 0; i + 1 < names.size(); ++i)
    facts.push_back(fmt::format("VAR {} = VAR {}", names[i], names[i + 1]));
  return {.context = "Remember the variables in this text.\n" + hide(random, facts, filler, true),
          .questions = {{.text = fmt::format("Which variables are equal?\n"
                                             "VAR Hamburg = VAR Venice = VAR Kiev = VAR Bern\nVAR {} = VAR",
                                             names.front()),
                         .answers = {names.begin() + 1, names.end()},
                         .tokens = static_cast<int>(names.size()) * kWordTokens}}};
}

// A list of words of which every second is the same one. Three words that come often are more than small models tell.
ContextQuestions commonwords(RandomText random, int filler, int /*questions*/) {
  constexpr std::size_t kRound = 4;  // words, half of them the common one
  const std::vector<std::string> words = random.several(plain_words(), plain_words().size() - 16);
  const std::string& common = words.front();
  std::string list;
  for (int i = 0; i <= filler; ++i) {
    std::vector<std::string> round(kRound, common);
    for (std::size_t rare = 0; rare < kRound / 2; ++rare) round[rare] = words[1 + random.below(words.size() - 1)];
    random.shuffle(round);
    list += fmt::format("{}{}", list.empty() ? "" : ", ", fmt::join(round, ", "));
  }
  return {.context = "This is a list of words: " + list + ".\n",
          .questions = {{.text = "Question: What word comes most often in the list?\n"
                                 "Answer: The word that comes most often is",
                         .answers = {common},
                         .tokens = kWordTokens}}};
}

// Facts about people, of three kinds.
ContextQuestions qa(RandomText random, int filler, int questions) {
  constexpr std::size_t kPeople = 6;
  const std::vector<std::string> names = random.several(first_names(), kPeople),
                                 cities = random.several(city_names(), kPeople), work = random.several(jobs(), kPeople),
                                 plays = random.several(instruments(), kPeople);
  std::vector<std::string> facts;
  std::vector<Question> all;
  for (std::size_t i = 0; i < kPeople; ++i) {
    const std::array<std::array<std::string, 3>, 3> told = {{
        {"{} lives in {}.", "Where does {0} live? {0} lives in", cities[i]},
        {"{} works as a {}.", "What is the work of {0}? {0} works as a", work[i]},
        {"{} plays the {}.", "What does {0} play? {0} plays the", plays[i]},
    }};
    const auto& [fact, question, answer] = told[i % told.size()];
    facts.push_back(fmt::format(fmt::runtime(fact), names[i], answer));
    all.push_back({.text = fmt::format(fmt::runtime(question), names[i]), .answers = {answer}, .tokens = kWordTokens});
  }
  ContextQuestions item{.context = "Remember the people in this text.\n", .questions = {}};
  item.context += hide(random, facts, filler, false);
  random.shuffle(all);
  all.resize(std::min<std::size_t>(all.size(), static_cast<std::size_t>(questions)));
  item.questions = std::move(all);
  return item;
}

ContextQuestions passkey(RandomText random, int filler, int /*questions*/) { return make_passkey(random, filler); }

constexpr std::array<RetrievalTask, 7> kTasks = {{
    {"needle", "codes, all of them asked for", needle},
    {"multikey", "16 codes, some of which are asked for", multikey},
    {"multivalue", "three codes of one city", multivalue},
    {"variables", "variables that are equal along a chain", variables},
    {"commonwords", "the word that comes most often in a list", commonwords},
    {"qa", "facts about six people", qa},
    {"passkey", "a number in a text that repeats", passkey},
}};

}  // namespace

std::span<const RetrievalTask> retrieval_tasks() { return kTasks; }

const RetrievalTask& retrieval_task(std::string_view name) {
  const auto task = std::ranges::find(kTasks, name, &RetrievalTask::name);
  if (task != kTasks.end()) return *task;
  std::vector<std::string_view> names;
  names.reserve(kTasks.size());
  for (const RetrievalTask& t : kTasks) names.push_back(t.name);
  fail("--task is \"{}\", expected all or some of {}", name, fmt::join(names, ", "));
}

ContextQuestions make_retrieval(const RetrievalTask& task, std::uint64_t seed, int index, const RetrievalLength& length,
                                const CountTokens& count) {
  const RandomText random(seed * 1'000'003 + static_cast<std::uint64_t>(index));
  return fit_length(task.name, length.tokens, count,
                    [&](int filler) { return task.make(random, filler, length.questions); });
}

}  // namespace lamina
