// SPDX-License-Identifier: Apache-2.0
#include "engine/suite.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "engine/choice_data.h"
#include "engine/score.h"
#include "engine/suite_parts.h"

namespace lamina {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

// Where the folder of data has each task's items.
struct TaskFile {
  std::string_view task, path;
};
constexpr std::array<TaskFile, 4> kTaskFiles{{{"arc_easy", "arc/ARC-Easy-Dev.jsonl"},
                                              {"arc_challenge", "arc/ARC-Challenge-Dev.jsonl"},
                                              {"piqa", "piqa/valid.jsonl"},
                                              {"winogrande", "winogrande/winogrande_dev_sample1000.jsonl"}}};
constexpr std::string_view kText = "wikitext-2/valid.txt", kStories = "prose/tiny_stories.txt",
                           kQuestions = "gsm8k/test.jsonl";

std::string_view path_of(std::string_view task) { return std::ranges::find(kTaskFiles, task, &TaskFile::task)->path; }

// Reads what a suite needs, and sums up what it has read.
class Reader {
 public:
  Reader(const SuiteFiles& files, const SuiteSizes& sizes, const Tokenizer& tokenizer, Pos context)
      : files_(files), sizes_(sizes), tokenizer_(tokenizer), context_(context) {
    const std::string path = files.text.empty() ? in_data(kText) : files.text;
    text_ = tokenizer.encode(note(path), false);
  }

  std::vector<Tokens> windows(int size, int count) const { return windows(text_, size, count); }

  // The text from its beginning, and again where it is shorter.
  Tokens repeated(std::size_t tokens) const {
    Tokens all;
    if (bos()) all.push_back(*bos());
    while (all.size() < tokens) all.push_back(text_[all.size() % text_.size()]);
    return all;
  }

  // With as many shots as make the first question's context long enough, but of a short file at most half, and not so
  // many that a question has no room.
  ChoiceSet choices(const std::string& task) {
    ChoiceData data{.task = task, .file = in_data(path_of(task))};
    const auto most = static_cast<int>(read_choices(data).size() / 2);
    const auto context = [&](int shots) {
      data.shots = shots, data.limit = 1;
      const ChoiceItem item = read_choices(data).front();
      return encode(tokenizer_, item.choices.front().context, true, true).size();
    };
    int shots = 0;
    while (shots < most && context(shots) < static_cast<std::size_t>(sizes_.item_tokens)) ++shots;
    data.limit = sizes_.items;
    while (true) {
      data.shots = shots;
      try {
        return encoded(data);
      } catch (const Error&) {
        if (shots-- == 0) throw;
      }
    }
  }

  // Of stories, which small models can go on with, or of the user's text.
  std::vector<GenerationItem> samples() {
    const Tokens text = files_.text.empty() ? tokenizer_.encode(note(in_data(kStories)), false) : text_;
    std::vector<GenerationItem> items;
    for (Tokens& prompt : windows(text, sizes_.sample_prompt, sizes_.samples))
      items.push_back({.prompt = std::move(prompt), .answer = {}});
    return items;
  }

  std::vector<GenerationItem> questions() {
    constexpr int kShots = 4;
    const std::string path = in_data(kQuestions);
    std::vector<GenerationItem> items;
    for (QuestionItem& q : read_questions(path, note(path), {.shots = kShots, .limit = sizes_.questions})) {
      items.push_back({.prompt = encode(tokenizer_, q.prompt, true, true),
                       .answer = std::move(q.answer),
                       .ends = {"\n\n", "Question:"}});
      require(std::ssize(items.back().prompt) + sizes_.question_tokens <= context_,
              "{}: a prompt of {} tokens and an answer of {}, the context has {}", path, items.back().prompt.size(),
              sizes_.question_tokens, context_);
    }
    return items;
  }

  std::string hash() const { return sha256_hex(read_).substr(0, 16); }

 private:
  ChoiceSet encoded(const ChoiceData& data) {
    ChoiceSet set{.task = data.task, .shots = data.shots, .items = read_choices(data), .tokens = {}};
    const ChoiceEncoder encoder{
        .encode = [this](const std::string& text) { return encode(tokenizer_, text, true, true); },
        .start = tokenizer_.bos() ? tokenizer_.bos() : tokenizer_.eos()};
    std::string all;
    for (const ChoiceItem& item : set.items) {
      try {
        set.tokens.push_back(encode_choices(item, encoder, context_));
      } catch (const Error& error) {
        fail("{}: line {}: {}", data.file, item.line, error.what());
      }
      for (const ChoiceItem::Choice& c : item.choices) all += c.context + "\n" + c.continuation + "\n";
      all += std::to_string(item.answer);
    }
    read_ += sha256_hex(all) + "\n";
    return set;
  }

  std::vector<Tokens> windows(const Tokens& text, int size, int count) const {
    const Windows all(text, static_cast<std::size_t>(size), static_cast<std::size_t>(count), bos());
    std::vector<Tokens> windows;
    for (std::size_t i = 0; i < all.count(); ++i) windows.push_back(all[i]);
    return windows;
  }

  std::optional<Token> bos() const { return tokenizer_.add_bos() ? tokenizer_.bos() : std::nullopt; }

  std::string in_data(std::string_view name) const {
    std::string path = (std::filesystem::path(files_.data) / name).string();
    require(!files_.data.empty(), "there is no text to measure on: -f TEXT, or --data DIR, a folder that has {}", name);
    require(std::filesystem::exists(path),
            "{}: there is no such file; --data names the folder that has {}, --data none leaves such tasks out", path,
            name);
    return path;
  }

  std::string note(const std::string& path) {
    std::string content = read_text(path, kMostBytes);
    read_ += sha256_hex(content) + "\n";
    return content;
  }

  const SuiteFiles& files_;
  const SuiteSizes& sizes_;
  const Tokenizer& tokenizer_;
  Pos context_;
  Tokens text_;       // without BOS
  std::string read_;  // hashes of texts and items
};

Tokens first(Tokens tokens, int count) {
  tokens.resize(static_cast<std::size_t>(count));
  return tokens;
}

std::string text_of(const SuiteSizes& s) {
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", s.windows, s.prompt, s.scored,
                     fmt::join(s.choices, "+"), s.items, s.item_tokens, s.contexts, s.retrieval_tokens, s.samples,
                     s.sample_prompt, s.sample_tokens, s.questions, s.question_tokens, fmt::join(s.depths, "+"),
                     s.speed_tokens, s.sentences, s.sentence_tokens);
}

}  // namespace

SuiteSizes SuiteSizes::of(std::string_view suite, Pos context) {
  SuiteSizes sizes;
  if (suite == "full")
    sizes = {.windows = 8,
             .scored = 128,
             .choices = {"arc_easy", "arc_challenge", "piqa", "winogrande"},
             .items = 200,
             .contexts = 20,
             .samples = 8,
             .sample_tokens = 128,
             .questions = 20,
             .depths = {1024, 4096, 8000},
             .speed_tokens = 64,
             .sentences = 32};
  const auto shorten = [context](int& length, int part) { length = std::max(1, std::min(length, context / part)); };
  for (int* const length : {&sizes.prompt, &sizes.item_tokens, &sizes.retrieval_tokens, &sizes.sample_prompt})
    shorten(*length, 2);
  for (int* const length : {&sizes.scored, &sizes.sample_tokens, &sizes.speed_tokens, &sizes.sentence_tokens})
    shorten(*length, 8);
  if (context < 2048) sizes.questions = 0;  // no room for their examples
  std::erase_if(sizes.depths, [&](Pos depth) { return depth + sizes.speed_tokens > context; });
  if (sizes.depths.empty()) sizes.depths = {context / 2};
  return sizes;
}

std::vector<std::string> suite_names() { return {"quick", "full"}; }

std::vector<std::string> data_files(const SuiteSizes& sizes, bool own_text) {
  std::vector<std::string> files;
  if (!own_text) files = {std::string(kText), std::string(kStories)};
  for (const std::string& task : sizes.choices) files.emplace_back(path_of(task));
  if (sizes.questions > 0) files.emplace_back(kQuestions);
  return files;
}

Suite make_suite(const std::string& name, const SuiteFiles& files, const Tokenizer& tokenizer, Pos context) {
  Suite suite{.name = name, .sizes = SuiteSizes::of(name, context), .data = {}, .measurements = {}};
  const SuiteSizes& s = suite.sizes;
  Reader reader(files, s, tokenizer, context);
  const auto add = [&](Measurement measurement) { suite.measurements.push_back(std::move(measurement)); };
  const std::vector<Tokens> windows = reader.windows(s.prompt + s.scored, s.windows);
  const Tokens prompt = first(windows.front(), s.prompt);
  add(perplexity_measurement(windows, s.prompt));
  add(cache_measurement(prompt));
  const bool has_data = !files.data.empty();
  for (const std::string& task : has_data ? s.choices : std::vector<std::string>{})
    add(choice_measurement(reader.choices(task)));
  for (const RetrievalTask& task : retrieval_tasks()) add(retrieval_measurement(task, s.contexts, s.retrieval_tokens));
  add(generation_measurement("generation.text", reader.samples(), s.sample_tokens));
  if (has_data && s.questions > 0)
    add(generation_measurement("generation.gsm8k", reader.questions(), s.question_tokens));
  for (const Pos depth : s.depths)
    add(speed_measurement(reader.repeated(static_cast<std::size_t>(depth) + static_cast<std::size_t>(s.speed_tokens)),
                          depth));
  add(layers_measurement(reader.windows(s.sentence_tokens, s.sentences)));
  add(attention_measurement(prompt));
  add(fastgen_measurement(prompt));
  add(minicache_measurement(prompt));
  suite.data = sha256_hex(reader.hash() + text_of(s)).substr(0, 16);
  return suite;
}

}  // namespace lamina
