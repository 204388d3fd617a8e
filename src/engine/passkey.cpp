// SPDX-License-Identifier: Apache-2.0
#include "engine/passkey.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
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

std::string needle(const std::string& number) {
  return fmt::format("The secret number is {0}. Remember it: {0} is the secret number.\n", number);
}

std::string passkey_text(const std::string& number, int before, int after) {
  std::string text(kIntro);
  for (int i = 0; i < before; ++i) text += kFiller;
  text += needle(number);
  for (int i = 0; i < after; ++i) text += kFiller;
  return text += kQuestion;
}

// What is decoded greedily after a prompt, whose last token the logits are of.
PasskeyResult answer(Session& session, std::span<const float> logits, const std::string& expected,
                     const Decode& decode) {
  PasskeyResult result;
  result.kept_fraction = session.kv().kept_fraction();
  result.kv_bytes = session.kv().bytes().total();
  result.length = session.kv().length();
  std::vector<Token> said;
  for (int i = 0; i < kAnswerTokens; ++i) {
    said.push_back(static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    if (i + 1 < kAnswerTokens) logits = session.decode(said.back());
  }
  result.said = decode(said);
  const std::size_t first = result.said.find_first_of("0123456789");
  result.found = first != std::string::npos && result.said.compare(first, expected.size(), expected) == 0;
  return result;
}

}  // namespace

PasskeyItem make_passkey(std::uint64_t seed, int index, std::size_t tokens, const CountTokens& count) {
  std::mt19937_64 random(seed * 1'000'003 + static_cast<std::uint64_t>(index));
  const std::string number = fmt::format("{}", 10'000 + random() % 90'000);
  const std::size_t least = count(passkey_text(number, 0, 0)), filler = count(passkey_text(number, 0, 8)) - least;
  require(tokens >= least, "a passkey item needs at least {} tokens, found a length of {}", least, tokens);
  auto fillers = static_cast<int>((tokens - least) * 8 / std::max<std::size_t>(filler, 1));
  while (fillers > 0 && count(passkey_text(number, 0, fillers)) > tokens) --fillers;
  const int before = static_cast<int>(random() % static_cast<std::uint64_t>(fillers + 1));
  return {.text = passkey_text(number, before, fillers - before),
          .answer = number,
          .depth = fillers > 0 ? static_cast<double>(before) / fillers : 0};
}

std::vector<PasskeyItem> read_passkeys(const std::string& path, const std::string& text) {
  std::vector<PasskeyItem> items;
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
    PasskeyItem item{.text = field("input"), .answer = field("target")};
    const std::size_t at = item.text.find(item.answer);
    require(at != std::string::npos, "{}: line {}: the input does not hold the target \"{}\"", path, number,
            item.answer);
    item.depth = static_cast<double>(at) / static_cast<double>(item.text.size());
    if (item.text.find('?') == std::string::npos) item.text += kPassKeyQuestion;
    items.push_back(std::move(item));
  }
  require(!items.empty(), "{}: no items", path);
  return items;
}

std::vector<PasskeyResult> ask_passkey(Model& model, ThreadPool& pool, Specs specs, const PasskeyItem& item, int batch,
                                       const Encode& encode, const Decode& decode) {
  const std::vector<Token> prompt = encode(item.text);
  const Pos context = static_cast<Pos>(prompt.size()) + kAnswerTokens;
  std::vector<PasskeyResult> results(specs.size());
  for (const std::vector<std::size_t>& group : shared_prompts(specs, model.shape(), context)) {
    Prompted prompted = prompt_all(model, pool, specs, group, context, batch, prompt);
    for (std::size_t member = 0; member < group.size(); ++member)
      results[group[member]] = answer(prompted.sessions[member], prompted.logits, item.answer, decode);
  }
  return results;
}

}  // namespace lamina
