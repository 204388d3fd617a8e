// SPDX-License-Identifier: Apache-2.0
// lamina eval passkey: how often a number that is hidden in a long text is found again under KV specs.
#include <array>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "common.h"
#include "engine/passkey.h"
#include "engine/retrieval_tasks.h"
#include "eval.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string file, output = "text";
  int length = 1024, items = 50;
  std::uint64_t seed = 1;
  bool verbose = false;
};

std::vector<ContextQuestions> items_of(const Arguments& args, const Loaded& loaded) {
  if (!args.file.empty()) return read_passkeys(args.file, read_file(args.file));
  require(args.length <= loaded.context, "--length is {}, the context has {}", args.length, loaded.context);
  const RetrievalLength length{.tokens = static_cast<std::size_t>(args.length), .questions = 1};
  std::vector<ContextQuestions> items;
  items.reserve(static_cast<std::size_t>(args.items));
  for (int i = 0; i < args.items; ++i)
    items.push_back(make_retrieval(retrieval_task("passkey"), args.seed, i, length,
                                   [&](const std::string& text) { return loaded.encode(text, true).size(); }));
  return items;
}

// Of one spec.
struct Found {
  int found = 0;
  double bytes = 0, kept = 0, length = 0;
  std::array<int, 4> right{}, asked{};  // by quarters of the depth

  void add(const Question& question, const Answers& answers) {
    const auto quarter = std::min<std::size_t>(3, static_cast<std::size_t>(question.depth * 4));
    const bool is_found = answers.answers.front().score == 1;
    found += is_found;
    right[quarter] += is_found;
    ++asked[quarter];
    bytes += answers.kv_bytes;
    kept += answers.kept_fraction;
    length += answers.length;
  }
};

std::vector<Found> measure(const Arguments& args, Loaded& loaded, const std::vector<ContextQuestions>& items) {
  std::vector<Found> found(loaded.specs.size());
  Progress progress("answers", items.size() * found.size());
  const Asker asker(loaded.model, loaded.pool, loaded.tokenizer, args.model.batch,
                    [] { require(!interrupted(), "interrupted, no result"); });
  std::size_t done = 0;
  for (const ContextQuestions& item : items) {
    const std::vector<Answers> results = asker.ask(loaded.specs, item, Asked::kInPrompt);
    const Question& question = item.questions.front();
    for (std::size_t i = 0; i < results.size(); ++i) {
      found[i].add(question, results[i]);
      const Answer& answer = results[i].answers.front();
      if (args.verbose)
        std::cerr << fmt::format("{:<40} depth {:.2f}  {} {}  {}\n", loaded.specs[i]->text(), question.depth,
                                 question.answers.front(), answer.score == 1 ? "found" : "not found",
                                 Json(answer.said).dump(-1, ' ', true, Json::error_handler_t::replace));
    }
    progress.update(done += results.size());
  }
  return found;
}

Json to_json(const Loaded& loaded, const KvSpec& spec, const Found& found, std::size_t items) {
  const auto n = static_cast<double>(items);
  Json depths = Json::array();
  for (std::size_t q = 0; q < found.right.size(); ++q)
    depths.push_back(found.asked[q] ? Json(static_cast<double>(found.right[q]) / found.asked[q]) : Json(nullptr));
  const auto dense = static_cast<double>(dense_bytes(loaded.model.shape(), static_cast<Pos>(found.length / n)).total());
  return {{"kv_spec", spec.text()},
          {"items", items},
          {"found", found.found},
          {"accuracy", found.found / n},
          {"accuracy_by_depth", depths},
          {"tokens", found.length / n},
          {"kept_fraction", found.kept / n},
          {"kv_bytes", found.bytes / n},
          {"kv_ratio", dense * n / found.bytes}};
}

void run(const Arguments& args) {
  Loaded loaded(args.model);
  const std::vector<ContextQuestions> items = items_of(args, loaded);
  const std::vector<Found> found = measure(args, loaded, items);
  std::vector<Json> rows;
  for (std::size_t i = 0; i < found.size(); ++i)
    rows.push_back(to_json(loaded, *loaded.specs[i], found[i], items.size()));
  if (args.output == "json") {
    std::cout << (rows.size() == 1 ? rows.front() : Json(rows)).dump(2) << '\n';
    return;
  }
  fmt::print("{} items of {:.0f} tokens on average; bytes and ratio to dense f16 after the prompt\n", items.size(),
             rows.front()["tokens"].get<double>());
  fmt::print("{:>6}  {:<23}  {:>6} {:>11} {:>6}  {}\n", "found", "by depth, in quarters", "kept", "kv bytes", "ratio",
             "kv");
  for (const Json& row : rows) {
    std::string depths;
    for (const Json& depth : row["accuracy_by_depth"])
      depths += depth.is_null() ? "    - " : fmt::format("{:5.0f} ", 100 * depth.get<double>());
    fmt::print("{:5.0f}%  {:<23}  {:>6.4f} {:>11.0f} {:>6.2f}  {}\n", 100 * row["accuracy"].get<double>(), depths,
               row["kept_fraction"].get<double>(), row["kv_bytes"].get<double>(), row["kv_ratio"].get<double>(),
               row["kv_spec"].get<std::string>());
  }
}

}  // namespace

void add_passkey(CLI::App& eval) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = eval.add_subcommand("passkey", "retrieval of a number that is hidden in a long text");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  CLI::Option* length = app->add_option("--length", args->length, "tokens of each item, the question included (1024)")
                            ->check(CLI::Range(1, 1 << 24));
  CLI::Option* items = app->add_option("--items", args->items, "how many (50)")->check(CLI::Range(1, 1 << 24));
  CLI::Option* seed = app->add_option_function<std::string>(
      "-s,--seed", [args](const std::string& text) { args->seed = fixed_seed(text); },
      "of the numbers and where they stand (1)");
  app->add_option("-f,--file", args->file, "instead: items from this file, {\"input\", \"target\"} a line; -: stdin")
      ->excludes(length)
      ->excludes(items)
      ->excludes(seed);
  app->add_flag("-v,--verbose", args->verbose, "each answer, to stderr");
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { run(*args); });
}

}  // namespace lamina
