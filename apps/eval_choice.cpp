// SPDX-License-Identifier: Apache-2.0
// lamina eval choice: multiple-choice questions under KV specs, as lm-evaluation-harness asks and scores them.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/new_file.h"
#include "common.h"
#include "engine/choice.h"
#include "engine/choice_data.h"
#include "eval.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  ChoiceData data;
  std::string items, output = "text";  // items: a file for each item's scores
};

struct Measured {
  std::vector<ChoiceItem> items;
  std::vector<std::vector<ChoiceScore>> scores;  // [spec][item]
};

// The tokens of each item: what does not fit is said before anything is computed.
std::vector<std::vector<ChoiceTokens>> encode_all(const Arguments& args, const Loaded& loaded,
                                                  const std::vector<ChoiceItem>& items) {
  const Tokenizer& tokenizer = loaded.tokenizer;
  const ChoiceEncoder encoder{.encode = [&](const std::string& text) { return loaded.encode(text, true); },
                              .start = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos()};
  std::vector<std::vector<ChoiceTokens>> tokens;
  for (const ChoiceItem& item : items) {
    try {
      tokens.push_back(encode_choices(item, encoder, loaded.context));
    } catch (const Error& error) {
      fail("{}: line {}: {}", args.data.file, item.line, error.what());
    }
  }
  return tokens;
}

Measured measure(const Arguments& args, Loaded& loaded, std::vector<ChoiceItem> items) {
  Measured measured{.items = std::move(items), .scores = {}};
  const std::vector<std::vector<ChoiceTokens>> tokens = encode_all(args, loaded, measured.items);
  measured.scores.resize(loaded.specs.size());
  Progress progress("items", tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    require(!interrupted(), "interrupted, no result");
    std::vector<ChoiceScore> scores =
        score_choices(loaded.model, loaded.pool, loaded.specs, tokens[i], args.model.batch);
    for (std::size_t spec = 0; spec < scores.size(); ++spec) measured.scores[spec].push_back(std::move(scores[spec]));
    progress.update(i + 1);
  }
  return measured;
}

Json to_json(const Arguments& args, const Loaded& loaded, const Measured& measured, std::size_t spec) {
  const ChoiceSummary summary = summarize_choices(measured.items, measured.scores[spec]);
  const auto dense = static_cast<double>(dense_bytes(loaded.model.shape(), static_cast<Pos>(summary.tokens)).total());
  return {{"task", args.data.task},
          {"items", measured.items.size()},
          {"accuracy", summary.accuracy.share},
          {"accuracy_norm", summary.accuracy_norm.share},
          {"kv_spec", loaded.specs[spec]->text()},
          {"accuracy_stderr", summary.accuracy.error},
          {"accuracy_norm_stderr", summary.accuracy_norm.error},
          {"shots", args.data.shots},
          {"tokens", summary.tokens},
          {"kept_fraction", summary.kept_fraction},
          {"kv_bytes", summary.kv_bytes},
          {"kv_ratio", dense / summary.kv_bytes}};
}

// A line for each spec and item.
void write_items(NewFile& file, const Loaded& loaded, const Measured& measured) {
  for (std::size_t spec = 0; spec < measured.scores.size(); ++spec)
    for (std::size_t i = 0; i < measured.items.size(); ++i) {
      const ChoiceItem& item = measured.items[i];
      const ChoiceScore& score = measured.scores[spec][i];
      const Json line{{"line", item.line},
                      {"kv_spec", loaded.specs[spec]->text()},
                      {"answer", item.answer},
                      {"chosen", chosen(score)},
                      {"chosen_norm", chosen_by_character(score, item)},
                      {"log_likelihoods", score.log_likelihoods}};
      file.write(line.dump() + "\n");
    }
  file.finish();
}

void print_table(const Arguments& args, const std::vector<Json>& rows) {
  fmt::print("{}: {} items, {} shots, prompts of {:.0f} tokens on average; bytes and ratio to dense f16 after them\n",
             args.data.task, rows.front()["items"].get<std::size_t>(), args.data.shots,
             rows.front()["tokens"].get<double>());
  fmt::print("{:>15} {:>15} {:>7} {:>11} {:>6}  {}\n", "accuracy", "by length", "kept", "kv bytes", "ratio", "kv");
  const auto percent = [](const Json& row, const std::string& key) {
    return fmt::format("{:.2f} ± {:.2f} %", 100 * row[key].get<double>(), 100 * row[key + "_stderr"].get<double>());
  };
  for (const Json& row : rows)
    fmt::print("{:>15} {:>15} {:>7.4f} {:>11.0f} {:>6.2f}  {}\n", percent(row, "accuracy"),
               percent(row, "accuracy_norm"), row["kept_fraction"].get<double>(), row["kv_bytes"].get<double>(),
               row["kv_ratio"].get<double>(), row["kv_spec"].get<std::string>());
}

void run(const Arguments& args) {
  std::vector<ChoiceItem> items = read_choices(args.data);
  std::optional<NewFile> file;  // before anything is measured: where it cannot be written, that is said at once
  if (!args.items.empty()) file.emplace(args.items);
  Loaded loaded(args.model);
  const Measured measured = measure(args, loaded, std::move(items));
  if (file) write_items(*file, loaded, measured);
  std::vector<Json> rows;
  for (std::size_t spec = 0; spec < loaded.specs.size(); ++spec) rows.push_back(to_json(args, loaded, measured, spec));
  if (args.output == "json")
    std::cout << (rows.size() == 1 ? rows.front() : Json(rows)).dump(2) << '\n';
  else
    print_table(args, rows);
}

std::string known_task(const std::string& name) {
  try {
    choice_task(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

void add_choice(CLI::App& eval) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = eval.add_subcommand("choice", "multiple-choice questions, by log-likelihood");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  std::string names;
  for (const ChoiceTask& task : choice_tasks()) names += (names.empty() ? "" : ", ") + task.name;
  app->add_option("--task", args->data.task, names)->required()->check(known_task);
  app->add_option("--data", args->data.file, "the questions, a JSON object a line")->required();
  app->add_option("--limit", args->data.limit, "only the first so many")->check(CLI::Range(1, 1 << 24));
  CLI::Option* shots = app->add_option("--shots", args->data.shots, "answered examples before each question (0)")
                           ->check(CLI::Range(0, 1 << 16));
  app->add_option("--shots-from", args->data.shots_file,
                  "the examples' file (default: the questions', which then asks only the others)")
      ->needs(shots)
      ->check(needs_value);
  app->add_option_function<std::string>(
         "-s,--seed", [args](const std::string& text) { args->data.seed = fixed_seed(text); },
         "draw the examples by this seed (default: the first)")
      ->needs(shots);
  app->add_option("--items", args->items, "write each item's log-likelihoods to this file, as JSON lines")
      ->check(needs_value);
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { run(*args); });
}

}  // namespace lamina
