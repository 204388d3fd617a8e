// SPDX-License-Identifier: Apache-2.0
// lamina eval generate: greedy texts under KV specs beside the dense cache's, for questions with a number as the answer
// (GSM8K) or as continuations of a text.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "common.h"
#include "engine/generation.h"
#include "engine/score.h"
#include "eval.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string data, file, output = "text";
  int limit = 0, predict = 128, prompt = 512, shots = 4;
};

void check_length(const Arguments& args, const std::string& where, const GenerationItem& item, Pos context) {
  require(item.prompt.size() + static_cast<std::size_t>(args.predict) <= static_cast<std::size_t>(context),
          "{}: a prompt has {} tokens and -n is {}, the context has {}", where, item.prompt.size(), args.predict,
          context);
}

std::vector<GenerationItem> items_of(const Arguments& args, const Loaded& loaded) {
  std::vector<GenerationItem> items;
  if (!args.data.empty()) {
    const QuestionChoice choice{.shots = args.shots, .limit = args.limit};
    for (QuestionItem& q : read_questions(args.data, read_file(args.data), choice)) {
      items.push_back(
          {.prompt = loaded.encode(q.prompt, true), .answer = std::move(q.answer), .ends = {"\n\n", "Question:"}});
      check_length(args, fmt::format("{}: line {}", args.data, q.line), items.back(), loaded.context);
    }
    return items;
  }
  const Tokenizer& tokenizer = loaded.tokenizer;
  const Windows windows(tokenizer.encode(read_file(args.file), false), static_cast<std::size_t>(args.prompt),
                        static_cast<std::size_t>(args.limit), tokenizer.add_bos() ? tokenizer.bos() : std::nullopt);
  for (std::size_t i = 0; i < windows.count(); ++i) {
    items.push_back({.prompt = windows[i], .answer = {}});
    check_length(args, fmt::format("--prompt {}", args.prompt), items.back(), loaded.context);
  }
  return items;
}

struct Generation {
  std::vector<Generated> dense;               // [item]
  std::vector<std::vector<Generated>> specs;  // [spec][item]
};

Generation generate(const Arguments& args, Loaded& loaded, std::span<const GenerationItem> items) {
  Generation all{.dense = {}, .specs = std::vector<std::vector<Generated>>(loaded.specs.size())};
  Progress progress("texts", items.size());
  const Writer writer(loaded.model, loaded.pool, loaded.tokenizer, args.model.batch,
                      [] { require(!interrupted(), "interrupted, no result"); });
  for (const GenerationItem& item : items) {
    Writer::Written written = writer.write(loaded.specs, item, args.predict);
    all.dense.push_back(std::move(written.dense));
    for (std::size_t i = 0; i < loaded.specs.size(); ++i) all.specs[i].push_back(std::move(written.specs[i]));
    progress.update(all.dense.size());
  }
  return all;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json to_json(const std::string& spec, std::span<const Generated> texts, bool with_answers, const KvShape& shape) {
  const GenerationScore score = summarize(texts);
  Json samples = Json::array();
  for (const Generated& text : texts) {
    Json& sample = samples.emplace_back(Json{{"text", text.text},
                                             {"tokens", text.tokens.size()},
                                             {"rouge_l", text.rouge_l},
                                             {"repetition", text.repetition},
                                             {"first_difference", or_null(text.first_difference)}});
    if (with_answers) sample.update(Json{{"answer", text.answer}, {"agrees", text.agrees}, {"right", text.is_right}});
  }
  const auto dense = static_cast<double>(dense_bytes(shape, static_cast<Pos>(score.length)).total());
  return {{"kv_spec", spec},
          {"items", texts.size()},
          {"agreement", with_answers ? Json(score.agreement) : Json(nullptr)},
          {"right", with_answers ? Json(score.right) : Json(nullptr)},
          {"rouge_l", score.rouge_l},
          {"repetition", score.repetition},
          {"same", score.same},
          {"first_difference", or_null(score.first_difference)},
          {"prompt_tokens", score.length},
          {"kept_fraction", score.kept_fraction},
          {"kv_bytes", score.kv_bytes},
          {"kv_ratio", dense / score.kv_bytes},
          {"samples", std::move(samples)}};
}

void print_row(const Json& row) {
  const auto percent = [](const Json& value) {
    return value.is_null() ? std::string("-") : fmt::format("{:.1f} %", 100 * value.get<double>());
  };
  const Json& first = row["first_difference"];
  print_now(fmt::format("{:>8} {:>8} {:>8.4f} {:>8} {:>8} {:>7} {:>7.4f} {:>11.0f}  {}\n", percent(row["agreement"]),
                        percent(row["right"]), row["rouge_l"].get<double>(), percent(row["repetition"]),
                        percent(row["same"]), first.is_null() ? "-" : fmt::format("{:.1f}", first.get<double>()),
                        row["kept_fraction"].get<double>(), row["kv_bytes"].get<double>(),
                        row["kv_spec"].get<std::string>()));
}

void run(const Arguments& args) {
  if (args.data.empty() && args.file.empty()) throw CLI::RequiredError("--data or --file");
  Loaded loaded(args.model);
  const std::vector<GenerationItem> items = items_of(args, loaded);
  const Generation all = generate(args, loaded, items);
  const bool with_answers = !args.data.empty();
  const KvShape shape = loaded.model.shape();
  Json result = {
      {"items", items.size()}, {"dense", to_json("full", all.dense, with_answers, shape)}, {"specs", Json::array()}};
  for (std::size_t i = 0; i < loaded.specs.size(); ++i)
    result["specs"].push_back(to_json(loaded.specs[i]->text(), all.specs[i], with_answers, shape));
  if (args.output == "json") {
    std::cout << result.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    return;
  }
  print_now(
      fmt::format("{} greedy texts of up to {} tokens beside the dense cache's: same final number, the "
                  "reference's, ROUGE-L (F1 over words),\nrepeated 4-grams of tokens, texts that are the same, "
                  "median token that differs first; rows kept and bytes after the prompt\n"
                  "  agrees    right  ROUGE-L  repeats     same   first    kept    kv bytes  kv\n",
                  items.size(), args.predict));
  Json dense = result["dense"];
  dense["kv_spec"] = "full (dense)";
  print_row(dense);
  for (const Json& row : result["specs"]) print_row(row);
}

}  // namespace

void add_generate(CLI::App& eval) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = eval.add_subcommand("generate", "greedy texts beside the dense cache's");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  CLI::Option* data =
      app->add_option("--data", args->data, "questions of GSM8K's form, {\"question\", \"answer\"} a line; -: stdin");
  CLI::Option* shots = app->add_option("--shots", args->shots, "of them shown with their answers in each prompt (4)")
                           ->check(CLI::Range(0, 1 << 16));
  CLI::Option* file = app->add_option("-f,--file", args->file, "instead: a text to continue; -: stdin")->excludes(data);
  app->add_option("--prompt", args->prompt, "tokens of each window of the text that is continued (512)")
      ->check(CLI::Range(1, 1 << 24))
      ->excludes(data);
  file->excludes(shots);
  app->add_option("--limit", args->limit, "items (default: as many as there are)")->check(CLI::Range(1, 1 << 24));
  app->add_option("-n,--predict", args->predict, "most tokens of a text (128)")->check(CLI::Range(1, 1 << 24));
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { run(*args); });
}

}  // namespace lamina
