// SPDX-License-Identifier: Apache-2.0
// lamina eval ppl: perplexity of a text under KV specs, and how far their logits are from a base's or from a file's.
#include "eval.h"

#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "common.h"
#include "engine/score.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string file, base, reference, reference_tokens, output = "text";
  int windows = 0;            // 0: as many as the file has
  int first = 0;              // 0: the middle of the window and one
  int prompt = 0, score = 0;  // both 0: each window is one prompt
};

struct Evaluation {
  std::string what;           // one line
  std::vector<Score> scores;  // [spec]
  std::string base;           // its spec; empty: none
  std::size_t windows = 1;
};

// Counts tokens; the first call after Ctrl-C throws, so nothing is printed of what was not finished.
Scorer::OnProgress report(Progress& progress) {
  return [&progress, done = std::size_t{0}](std::size_t tokens) mutable {
    progress.update(done += tokens);
    require(!interrupted(), "interrupted, no result");
  };
}

Windows cut(const Arguments& args, const Loaded& loaded, std::size_t size) {
  const Tokenizer& tokenizer = loaded.tokenizer;
  return Windows(tokenizer.encode(read_file(args.file), false), size, static_cast<std::size_t>(args.windows),
                 tokenizer.add_bos() ? tokenizer.bos() : std::nullopt);
}

Evaluation windows(const Arguments& args, Loaded& loaded) {
  const auto size = static_cast<std::size_t>(loaded.context);
  const std::size_t first = args.first > 0 ? static_cast<std::size_t>(args.first) : size / 2 + 1;
  require(first < size, "--first is {}, expected less than the window's {} tokens (-c)", first, size);
  const Windows windows = cut(args, loaded, size);
  Progress progress("tokens", size * windows.count() * loaded.specs.size());
  const Scorer scorer(loaded.model, loaded.pool, args.model.batch, report(progress));
  Evaluation result{
      .what = fmt::format("{} windows of {} tokens, each scored from token {} on", windows.count(), size, first),
      .scores = {},
      .base = {},
      .windows = windows.count()};
  for (const auto& spec : loaded.specs) result.scores.push_back(scorer.score_windows(spec, windows, first));
  return result;
}

Evaluation continuations(const Arguments& args, Loaded& loaded) {
  const Pos trained = loaded.model.config().context;
  require(
      args.prompt <= trained && args.score <= trained - args.prompt,
      "--prompt {} and --score {} make a window longer than the {} tokens of context that the model was trained with",
      args.prompt, args.score, trained);
  const auto prompt = static_cast<std::size_t>(args.prompt), size = prompt + static_cast<std::size_t>(args.score);
  std::shared_ptr<const KvSpec> base;
  if (!args.base.empty())
    base = std::make_shared<KvSpec>(KvSpec::parse(args.base, loaded.model.shape(), UpwardMaps::kAny));
  const Windows windows = cut(args, loaded, size);
  Progress progress("tokens", size * windows.count() * (loaded.specs.size() + (base ? 1 : 0)));
  const Scorer scorer(loaded.model, loaded.pool, args.model.batch, report(progress));
  return {.what = fmt::format("{} windows: a prompt of {} tokens, then {} fed one at a time and scored",
                              windows.count(), args.prompt, args.score),
          .scores = scorer.score_continuations(loaded.specs, base, windows, prompt),
          .base = base ? base->text() : "",
          .windows = windows.count()};
}

std::vector<Token> reference_tokens(const std::string& path) {
  const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  const auto tokens = json.is_object() ? json.find("tokens") : json.end();
  require(json.is_object() && tokens != json.end() && tokens->is_array(),
          "{}: expected a JSON object with an array \"tokens\"", path);
  std::vector<Token> ids;
  for (const auto& token : *tokens) {
    const auto id = token.is_number_integer() ? token.get<std::int64_t>() : -1;
    require(id >= 0 && id <= std::numeric_limits<Token>::max(), "{}: \"tokens\" holds {}", path, token.dump());
    ids.push_back(static_cast<Token>(id));
  }
  return ids;
}

Evaluation reference(const Arguments& args, Loaded& loaded) {
  const std::vector<Token> tokens = reference_tokens(args.reference_tokens);
  require(tokens.size() <= static_cast<std::size_t>(loaded.context), "{}: {} tokens, the context has {}",
          args.reference_tokens, tokens.size(), loaded.context);
  const MappedFile file(args.reference);
  const std::size_t vocab = static_cast<std::size_t>(loaded.model.config().vocab), expected = tokens.size() * vocab * 4;
  require(file.bytes().size() == expected, "{}: {} bytes, expected {}: float32 logits of {} tokens x {}",
          args.reference, file.bytes().size(), expected, tokens.size(), vocab);
  const std::span logits(reinterpret_cast<const float*>(file.bytes().data()), tokens.size() * vocab);
  Progress progress("tokens", tokens.size() * loaded.specs.size());
  const Scorer scorer(loaded.model, loaded.pool, args.model.batch, report(progress));
  Evaluation result{.what = fmt::format("{} tokens as one prompt, all but the first scored", tokens.size()),
                    .scores = {},
                    .base = args.reference};
  for (const auto& spec : loaded.specs) result.scores.push_back(scorer.score_reference(spec, tokens, logits));
  return result;
}

Json to_json(const Arguments& args, const Loaded& loaded, const Evaluation& evaluation, std::size_t i) {
  const Score& score = evaluation.scores[i];
  const Summary summary = summarize(score.tokens, score.compared);
  const auto& base = summary.base;
  const auto or_null = [&](double Summary::Comparison::*value) { return base ? Json((*base).*value) : Json(nullptr); };
  const auto dense = static_cast<double>(dense_bytes(loaded.model.shape(), score.kv_length));
  return {{"kv_spec", loaded.specs[i]->text()},
          {"perplexity", summary.perplexity},
          {"tokens", score.tokens.size()},
          {"kl_mean", or_null(&Summary::Comparison::kl_mean)},
          {"kl_median", or_null(&Summary::Comparison::kl_median)},
          {"kl_p99", or_null(&Summary::Comparison::kl_p99)},
          {"top1_agreement", or_null(&Summary::Comparison::top1_agreement)},
          {"kept_fraction", score.kept_fraction},
          {"kv_bytes", score.kv_bytes},
          {"kv_ratio", dense / score.kv_bytes},
          {"base_spec", base && args.reference.empty() ? Json(evaluation.base) : Json(nullptr)},
          {"reference", args.reference.empty() ? Json(nullptr) : Json(args.reference)},
          {"base_perplexity", or_null(&Summary::Comparison::base_perplexity)},
          {"windows", evaluation.windows},
          {"kv_length", score.kv_length},
          {"seconds", score.seconds},
          {"merged_layers", 2 * loaded.specs[i]->minicache.pairs.size()},
          {"apart_fraction",
           score.merged.merged + score.merged.apart ? Json(score.merged.apart_fraction()) : Json(nullptr)}};
}

void print_table(const Evaluation& evaluation, const std::vector<Json>& rows, const Loaded& loaded) {
  const auto cell = [](const Json& value, int digits) {
    return value.is_null() ? std::string("-") : fmt::format("{:.{}f}", value.get<double>(), digits);
  };
  fmt::print("{}\n", evaluation.what);
  if (!evaluation.base.empty())
    fmt::print("KL and top-1 beside {}, perplexity {}\n", evaluation.base, cell(rows.front()["base_perplexity"], 4));
  fmt::print("bytes and ratio to dense f16 at {} tokens\n", rows.front()["kv_length"].get<Pos>());
  fmt::print("{:>10} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>11} {:>6}  {}\n", "perplexity", "tokens", "KL mean",
             "median", "99 %", "top-1", "kept", "apart", "kv bytes", "ratio", "kv");
  for (const Json& row : rows)
    fmt::print("{:>10} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>11} {:>6}  {}\n", cell(row["perplexity"], 4),
               row["tokens"].get<std::size_t>(), cell(row["kl_mean"], 6), cell(row["kl_median"], 6),
               cell(row["kl_p99"], 6), cell(row["top1_agreement"], 4), cell(row["kept_fraction"], 4),
               cell(row["apart_fraction"], 4), cell(row["kv_bytes"], 0), cell(row["kv_ratio"], 2),
               row["kv_spec"].get<std::string>());
  for (const auto& spec : loaded.specs)
    if (!merged_layers(*spec).empty()) fmt::print("{}: {}\n", spec->text(), merged_layers(*spec));
}

void run(const Arguments& args) {
  if (args.file.empty() && args.reference.empty()) throw CLI::RequiredError("--file");
  Loaded loaded(args.model);
  const Evaluation evaluation = !args.reference.empty() ? reference(args, loaded)
                                : args.prompt > 0       ? continuations(args, loaded)
                                                        : windows(args, loaded);
  std::vector<Json> rows;
  for (std::size_t i = 0; i < evaluation.scores.size(); ++i) rows.push_back(to_json(args, loaded, evaluation, i));
  if (args.output == "json")
    std::cout << (rows.size() == 1 ? rows.front() : Json(rows)).dump(2) << '\n';
  else
    print_table(evaluation, rows, loaded);
}

void add_perplexity(CLI::App& eval) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = eval.add_subcommand("ppl", "perplexity of a text, and KL divergence to a base");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  CLI::Option* context = app->get_option("--ctx-size");
  CLI::Option* file = app->add_option("-f,--file", args->file, "the text; -: stdin");
  CLI::Option* windows = app->add_option("--windows", args->windows, "windows of the text (default: as many as it has)")
                             ->check(CLI::Range(1, 1 << 24));
  CLI::Option* first = app->add_option("--first", args->first,
                                       "first token of each window of -c tokens that is scored "
                                       "(default: c/2 + 1)")
                           ->check(CLI::Range(1, 1 << 24));
  CLI::Option* prompt = app->add_option("--prompt", args->prompt, "instead of -c: tokens of each window's prompt")
                            ->check(CLI::Range(1, 1 << 24));
  CLI::Option* score = app->add_option("--score", args->score, "tokens that are fed one by one after it and scored")
                           ->check(CLI::Range(1, 1 << 24));
  prompt->needs(score)->excludes(context)->excludes(first);
  score->needs(prompt);
  app->add_option("--base", args->base, "KV spec to compare with on the same tokens")->needs(prompt);
  CLI::Option* reference =
      app->add_option("--reference", args->reference, "compare with these logits: raw float32 [tokens][vocab]");
  CLI::Option* tokens = app->add_option("--reference-tokens", args->reference_tokens,
                                        "JSON with the \"tokens\" that they are of, scored as one prompt");
  reference->needs(tokens)->excludes(file)->excludes(windows)->excludes(first)->excludes(prompt);
  tokens->needs(reference);
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { run(*args); });
}

}  // namespace

void add_eval(CLI::App& program) {
  CLI::App* eval = program.add_subcommand("eval", "measure quality");
  eval->require_subcommand(1);
  add_perplexity(*eval);
  add_choice(*eval);
  add_passkey(*eval);
}

}  // namespace lamina
