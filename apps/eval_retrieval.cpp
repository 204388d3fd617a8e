// SPDX-License-Identifier: Apache-2.0
// lamina eval retrieval: how much of what is hidden in contexts is found again under KV specs, when the question is
// known before the cache is compressed and when it is not.
#include "eval.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "common.h"
#include "engine/passkey.h"
#include "engine/retrieval.h"
#include "engine/retrieval_tasks.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::vector<std::string> tasks = {"all"};
  std::string file, output = "text";
  int items = 20;
  std::uint64_t seed = 1;
  RetrievalLength length;
  bool verbose = false;
};

constexpr std::array kAskedNames = {"query_agnostic", "query_aware"};  // [Asked]

struct NamedTask {
  std::string name;
  std::vector<ContextQuestions> items;
};

std::vector<NamedTask> tasks_of(const Arguments& args, const Loaded& loaded) {
  if (!args.file.empty()) return {{"passkey", read_passkeys(args.file, read_file(args.file))}};
  std::vector<const RetrievalTask*> wanted;
  for (const std::string& name : args.tasks)
    if (name == "all")
      for (const RetrievalTask& task : retrieval_tasks()) wanted.push_back(&task);
    else
      wanted.push_back(&retrieval_task(name));
  require(args.length.tokens <= static_cast<std::size_t>(loaded.context), "--length is {}, the context has {}",
          args.length.tokens, loaded.context);
  const auto count = [&](const std::string& text) { return loaded.encode(text, true).size(); };
  std::vector<NamedTask> tasks;
  for (const RetrievalTask* const task : wanted) {
    NamedTask& named = tasks.emplace_back(NamedTask{.name = std::string(task->name), .items = {}});
    for (int i = 0; i < args.items; ++i) named.items.push_back(make_retrieval(*task, args.seed, i, args.length, count));
  }
  return tasks;
}

void check_length(const Asker& asker, const Arguments& args, const NamedTask& task, Pos context) {
  for (const ContextQuestions& item : task.items) {
    const std::string where = item.line > 0 ? fmt::format("{}: line {}", args.file, item.line)
                                            : fmt::format("task {}, --length {}", task.name, args.length.tokens);
    const Pos tokens = asker.tokens(item);
    require(tokens <= context, "{}: an item with its answer has {} tokens, the context has {}", where, tokens, context);
  }
}

void print_answer(const RetrievalAnswer& a) {
  std::cerr << fmt::format("{:<30} {} depth {:.2f}  {:3.0f} %  {} {}\n", a.spec.text(),
                           kAskedNames[static_cast<std::size_t>(a.when)], a.question.depth, 100 * a.answer.score,
                           Json(a.question.answers).dump(-1, ' ', true, Json::error_handler_t::replace),
                           Json(a.answer.said).dump(-1, ' ', true, Json::error_handler_t::replace));
}

Json to_json(const RetrievalScore& score, const KvShape& shape) {
  const auto dense = static_cast<double>(dense_bytes(shape, static_cast<Pos>(score.length)).total());
  return {{"found", score.found},
          {"tokens", score.length},
          {"kept_fraction", score.kept_fraction},
          {"kv_bytes", score.kv_bytes},
          {"kv_ratio", dense / score.kv_bytes}};
}

Json to_json(const std::string& task, const RetrievalResult& result, const Loaded& loaded) {
  Json json = {{"task", task},
               {"items", result.items},
               {"answers", result.answers},
               {"reported", result.is_reported()},
               {"dense", Json::object()},
               {"specs", Json::array()}};
  for (std::size_t when = 0; when < kAskedNames.size(); ++when)
    json["dense"][kAskedNames[when]] = to_json(result.dense[when], loaded.model.shape());
  for (std::size_t i = 0; i < result.specs.size(); ++i) {
    Json& row = json["specs"].emplace_back(Json{{"kv_spec", loaded.specs[i]->text()}});
    for (std::size_t when = 0; when < kAskedNames.size(); ++when)
      row[kAskedNames[when]] = to_json(result.specs[i][when], loaded.model.shape());
  }
  return json;
}

void print_task(const std::string& task, const RetrievalResult& result, const Loaded& loaded) {
  const double dense = 100 * result.dense_found();
  if (!result.is_reported())
    return print_now(fmt::format("{:<12} dense reaches {:.0f} %: not reported\n", task, dense));
  std::string out =
      fmt::format("{:<12} dense reaches {:.0f} %; {} items, {} answers\n", task, dense, result.items, result.answers);
  for (std::size_t i = 0; i < result.specs.size(); ++i) {
    const auto& [agnostic, aware] = result.specs[i];
    out += fmt::format("{:>13.1f}% {:>7.1f}% {:>8.4f} {:>11.0f}  {}\n", 100 * agnostic.found, 100 * aware.found,
                       agnostic.kept_fraction, agnostic.kv_bytes, loaded.specs[i]->text());
  }
  print_now(out);
}

void run(const Arguments& args) {
  Loaded loaded(args.model);
  const std::vector<NamedTask> tasks = tasks_of(args, loaded);
  std::size_t done = 0;
  Progress progress("answers", 0);
  const Asker asker(loaded.model, loaded.pool, loaded.tokenizer, args.model.batch,
                    [] { require(!interrupted(), "interrupted, no result"); });
  for (const NamedTask& task : tasks) check_length(asker, args, task, loaded.context);
  Json rows = Json::array();
  if (args.output == "text")
    print_now(
        "found when the question comes after the cache was compressed, and before; rows kept and bytes after the "
        "context\n  agnostic    aware     kept    kv bytes  kv\n");
  for (const NamedTask& task : tasks) {
    const RetrievalResult result =
        measure_retrieval(asker, loaded.model.shape(), loaded.specs, task.items, [&](const RetrievalAnswer& answer) {
          progress.show(fmt::format("{} {}", ++done, task.name));
          if (args.verbose) print_answer(answer);
        });
    progress.clear();
    if (args.output == "text") print_task(task.name, result, loaded);
    rows.push_back(to_json(task.name, result, loaded));
  }
  if (args.output == "json") std::cout << rows.dump(2) << '\n';
}

}  // namespace

void add_retrieval(CLI::App& eval) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app =
      eval.add_subcommand("retrieval", "what is hidden in a context, asked for after and before compression");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  CLI::Option* tasks =
      app->add_option("--task", args->tasks, "all (the default), or some of the tasks, with commas")->delimiter(',');
  CLI::Option* length =
      app->add_option("--length", args->length.tokens, "tokens of each context with a question (1024)")
          ->check(CLI::Range(1, 1 << 24));
  CLI::Option* items =
      app->add_option("--items", args->items, "contexts of each task (20)")->check(CLI::Range(1, 1 << 24));
  CLI::Option* questions =
      app->add_option("--questions", args->length.questions, "questions of each context, where a task has several (2)")
          ->check(CLI::Range(1, 6));
  CLI::Option* seed = app->add_option_function<std::string>(
      "-s,--seed", [args](const std::string& text) { args->seed = fixed_seed(text); }, "of the contexts (1)");
  CLI::Option* file = app->add_option("-f,--file", args->file,
                                      "instead: passkeys from this file, {\"input\", \"target\"} a line; -: stdin");
  for (CLI::Option* const other : {tasks, length, items, questions, seed}) file->excludes(other);
  app->add_flag("-v,--verbose", args->verbose, "each answer, to stderr");
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { run(*args); });
}

}  // namespace lamina
