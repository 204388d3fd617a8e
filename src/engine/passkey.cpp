// SPDX-License-Identifier: Apache-2.0
#include "engine/passkey.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"

namespace lamina {
namespace {

constexpr std::string_view kIntro =
    "Somewhere in the following text stands a secret number. Remember it: you will be asked for it at the end.\n";
constexpr std::string_view kFiller =
    "Rain fell on the hills. The river ran past the old mill. At noon the birds crossed the field. It grew dark.\n";
constexpr std::string_view kQuestion = "What is the secret number? The secret number is";
constexpr std::string_view kPassKeyQuestion = "\nWhat is the pass key? The pass key is";
constexpr int kAnswerTokens = 12;  // five digits, at worst a byte each, a space and a few more

std::string passkey_context(const std::string& number, int before, int after) {
  std::string text(kIntro);
  for (int i = 0; i < before; ++i) text += kFiller;
  text += fmt::format("The secret number is {0}. Remember it: {0} is the secret number.\n", number);
  for (int i = 0; i < after; ++i) text += kFiller;
  return text;
}

Question question(std::string_view text, const std::string& answer) {
  return {.text = std::string(text), .answers = {answer}, .tokens = kAnswerTokens};
}

// Where the last question of a text begins: after the line or sentence before it.
std::size_t last_question(const std::string& text) {
  const std::size_t mark = text.rfind('?');
  if (mark == std::string::npos) return text.size();
  const auto after = [&](std::string_view end) {
    const std::size_t at = text.rfind(end, mark);
    return at == std::string::npos ? 0 : at + 1;
  };
  return std::max(after("\n"), after(". "));
}

}  // namespace

ContextQuestions make_passkey(RandomText random, int filler) {
  const std::string number = random.numbers(1).front();
  const int before = static_cast<int>(random.below(static_cast<std::uint64_t>(filler) + 1));
  return {.context = passkey_context(number, before, filler - before), .questions = {question(kQuestion, number)}};
}

std::vector<ContextQuestions> read_passkeys(const std::string& path, const std::string& text) {
  std::vector<ContextQuestions> items;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto field = [&](const char* name) {
      const bool has = json.is_object() && json.contains(name) && json[name].is_string();
      require(has, "{}: line {}: expected an object with strings \"input\" and \"target\"", path, number);
      return json[name].get<std::string>();
    };
    const std::string input = field("input"), target = field("target");
    const std::size_t end = last_question(input), at = input.substr(0, end).find(target);
    require(!target.empty() && at != std::string::npos,
            "{}: line {}: the input does not hold the target \"{}\" before its question", path, number, target);
    Question asked = question(end < input.size() ? input.substr(end) : std::string(kPassKeyQuestion), target);
    asked.depth = static_cast<double>(at) / static_cast<double>(end);
    items.push_back({.context = input.substr(0, end), .questions = {std::move(asked)}, .line = number});
  }
  require(!items.empty(), "{}: no items", path);
  return items;
}

}  // namespace lamina
