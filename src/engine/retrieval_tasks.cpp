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

std::string code_of(const std::string& city, const std::string& number) {
  return fmt::format("The code of {} is {}.", city, number);
}

// `keys` codes, some of which are asked for.
ContextQuestions codes(RandomText random, int filler, int questions, int keys) {
  const auto n = static_cast<std::size_t>(std::max(keys, questions));
  const std::vector<std::string> cities = random.several(city_names(), n), numbers = random.numbers(n);
  std::vector<std::string> facts;
  for (std::size_t i = 0; i < n; ++i) facts.push_back(code_of(cities[i], numbers[i]));
  ContextQuestions item{.context = "Remember the codes of the cities in this text.\n", .questions = {}};
  item.context += hide(random, facts, filler, false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(questions); ++i)
    item.questions.push_back(
        {.text = fmt::format("What is the code of {0}? The code of {0} is", cities[i]),
         .answers = {numbers[i]},
         .tokens = kNumberTokens});
  return item;
}

ContextQuestions needle(RandomText random, int filler, int questions) { return codes(random, filler, questions, 1); }

ContextQuestions multikey(RandomText random, int filler, int questions) {
  return codes(random, filler, questions, 16);
}

// Several codes of each city.
ContextQuestions multivalue(RandomText random, int filler, int questions) {
  constexpr std::size_t kValues = 3;
  const auto n = static_cast<std::size_t>(questions);
  const std::vector<std::string> cities = random.several(city_names(), n), numbers = random.numbers(n * kValues);
  std::vector<std::string> facts;
  ContextQuestions item{.context = "Remember the codes of the cities in this text. A city has several codes.\n",
                        .questions = {}};
  for (std::size_t i = 0; i < n; ++i) {
    Question& q = item.questions.emplace_back(
        Question{.text = fmt::format("What are the {1} codes of {0}? The codes of {0} are", cities[i], kValues),
                 .answers = {},
                 .tokens = static_cast<int>(kValues) * kNumberTokens});
    for (std::size_t v = 0; v < kValues; ++v) {
      q.answers.push_back(numbers[i * kValues + v]);
      facts.push_back(code_of(cities[i], q.answers.back()));
    }
  }
  item.context += hide(random, facts, filler, false);
  return item;
}

// A number that a chain of variables holds, each of which takes it from the one before.
ContextQuestions variables(RandomText random, int filler, int questions) {
  constexpr std::size_t kChain = 3;
  const auto n = static_cast<std::size_t>(questions);
  const std::vector<std::string> names = random.several(first_names(), n * kChain), numbers = random.numbers(n);
  std::vector<std::string> facts;
  ContextQuestions item{.context = "Remember who has which number in this text.\n", .questions = {}};
  for (std::size_t hop = 0; hop < kChain; ++hop)
    for (std::size_t i = 0; i < n; ++i) {
      const std::string& name = names[i * kChain + hop];
      facts.push_back(hop == 0 ? fmt::format("The number {} is given to {}.", numbers[i], name)
                               : fmt::format("{} gives it to {}.", names[i * kChain + hop - 1], name));
    }
  for (std::size_t i = 0; i < n; ++i)
    item.questions.push_back({.text = fmt::format("Who had the number {0}? The number {0} is given to", numbers[i]),
                              .answers = {names.begin() + static_cast<std::ptrdiff_t>(i * kChain),
                                          names.begin() + static_cast<std::ptrdiff_t>((i + 1) * kChain)},
                              .tokens = static_cast<int>(kChain) * kWordTokens});
  item.context += hide(random, facts, filler, true);
  return item;
}

// A list of words of which a few come often. Filler are rounds of the list.
ContextQuestions commonwords(RandomText random, int filler, int /*questions*/) {
  constexpr std::size_t kCommon = 3, kRare = 40;
  const std::vector<std::string> words = random.several(plain_words(), kCommon + kRare);
  const std::vector<std::string> common(words.begin(), words.begin() + kCommon);
  std::string list;
  std::vector<std::string> round;
  for (int i = 0; i <= filler; ++i) {
    round = common;
    for (int rare = 0; rare < 3; ++rare) round.push_back(words[kCommon + random.below(kRare)]);
    random.shuffle(round);
    list += fmt::format("{}{}", list.empty() ? "" : ", ", fmt::join(round, ", "));
  }
  return {.context = "Some words come often in this list:\n" + list + ".\n",
          .questions = {{.text = fmt::format("Which {} words come most often in the list? The most common words are",
                                             kCommon),
                         .answers = common,
                         .tokens = static_cast<int>(kCommon) * kWordTokens}}};
}

// Facts about people, of three kinds.
ContextQuestions qa(RandomText random, int filler, int questions) {
  constexpr std::size_t kPeople = 6;
  const std::vector<std::string> names = random.several(first_names(), kPeople),
                                 cities = random.several(city_names(), kPeople),
                                 work = random.several(jobs(), kPeople),
                                 likes = random.several(hobbies(), kPeople);
  std::vector<std::string> facts;
  std::vector<Question> all;
  for (std::size_t i = 0; i < kPeople; ++i) {
    const std::array<std::array<std::string, 3>, 3> told = {{
        {"{} lives in {}.", "Where does {0} live? {0} lives in", cities[i]},
        {"{} works as a {}.", "What is the work of {0}? {0} works as a", work[i]},
        {"{} likes {}.", "What does {0} like? {0} likes", likes[i]},
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
    {"needle", "codes of cities, all of them asked for", needle},
    {"multikey", "codes of 16 cities, some of which are asked for", multikey},
    {"multivalue", "three codes of each city", multivalue},
    {"variables", "a number that is handed on along a chain", variables},
    {"commonwords", "the three words that come most often in a list", commonwords},
    {"qa", "facts about six people", qa},
    {"passkey", "a number in a text that repeats", passkey},
}};

}  // namespace

std::span<const RetrievalTask> retrieval_tasks() { return kTasks; }

const RetrievalTask& retrieval_task(std::string_view name) {
  const auto task = std::ranges::find(kTasks, name, &RetrievalTask::name);
  if (task != kTasks.end()) return *task;
  std::vector<std::string_view> names;
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
