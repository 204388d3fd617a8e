// SPDX-License-Identifier: Apache-2.0
// lamina eval ppl: perplexity of a text under KV specs, and how far their logits are from a base's or from a file's.
#include "eval.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "common.h"
#include "engine/base_file.h"
#include "engine/score.h"
#include "eval_perplexity.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  std::string file, base, save_base, base_file, reference, reference_tokens, output = "text";
  int windows = 0;            // 0: as many as the file has
  int first = 0;              // 0: the middle of the window and one
  int prompt = 0, score = 0;  // both 0: each window is one prompt
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

// Base logits that come from a file, or go to one.
class BaseFiles {
 public:
  BaseFiles(const Arguments& args, const Loaded& loaded, const Windows& windows, std::size_t first,
            const std::string& protocol, const KvSpec* base) {
    if (!args.base_file.empty())
      from_.emplace(args.base_file).expect(base_text(loaded.model, windows, first, protocol, ""));
    if (args.save_base.empty()) return;
    require(base != nullptr || loaded.specs.size() == 1,
            "--save-base keeps the logits of one spec, --kv has {}: name the one as --base, or as the only --kv",
            loaded.specs.size());
    const std::string& spec = base != nullptr ? base->text() : loaded.spec()->text();
    to_.emplace(args.save_base, base_text(loaded.model, windows, first, protocol, spec));
  }

  BaseRows rows() { return {.from = from_ ? &*from_ : nullptr, .to = to_ ? &*to_ : nullptr}; }
  std::string spec() const { return from_ ? from_->text().spec : ""; }
  void finish() {
    if (to_) to_->finish();
  }

 private:
  std::optional<BaseFile> from_;
  std::optional<BaseWriter> to_;
};

Evaluation windows(const Arguments& args, Loaded& loaded) {
  const auto size = static_cast<std::size_t>(loaded.context);
  const std::size_t first = args.first > 0 ? static_cast<std::size_t>(args.first) : size / 2 + 1;
  require(first < size, "--first is {}, expected less than the window's {} tokens (-c)", first, size);
  const Windows windows = cut(args, loaded, size);
  BaseFiles base(args, loaded, windows, first, "windows", nullptr);
  Progress progress("tokens", size * windows.count() * loaded.specs.size());
  const Scorer scorer(loaded.model, loaded.pool, args.model.batch, report(progress));
  Evaluation result{
      .what = fmt::format("{} windows of {} tokens, each scored from token {} on", windows.count(), size, first),
      .specs = loaded.specs,
      .scores = {},
      .windows = windows.count(),
      .base_spec = base.spec(),
      .base_file = args.base_file};
  for (const auto& spec : loaded.specs)
    result.scores.push_back(scorer.score_windows(spec, windows, first, base.rows()));
  base.finish();
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
  BaseFiles files(args, loaded, windows, prompt, "continuations", base.get());
  Progress progress("tokens", size * windows.count() * (loaded.specs.size() + (base ? 1 : 0)));
  const Scorer scorer(loaded.model, loaded.pool, args.model.batch, report(progress));
  Evaluation result{.what = fmt::format("{} windows: a prompt of {} tokens, then {} fed one at a time and scored",
                                        windows.count(), args.prompt, args.score),
                    .specs = loaded.specs,
                    .scores = scorer.score_continuations(loaded.specs, base, windows, prompt, files.rows()),
                    .windows = windows.count(),
                    .base_spec = base ? base->text() : files.spec(),
                    .base_file = args.base_file};
  files.finish();
  return result;
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
                    .specs = loaded.specs,
                    .scores = {},
                    .reference = args.reference};
  try {
    for (const auto& spec : loaded.specs) result.scores.push_back(scorer.score_reference(spec, tokens, logits));
  } catch (const Error& error) {
    fail("{} of {}: {}", args.reference, args.reference_tokens, error.what());
  }
  return result;
}

void run(const Arguments& args) {
  if (args.file.empty() && args.reference.empty()) throw CLI::RequiredError("--file");
  Loaded loaded(args.model);
  const Evaluation evaluation = !args.reference.empty() ? reference(args, loaded)
                                : args.prompt > 0       ? continuations(args, loaded)
                                                        : windows(args, loaded);
  if (args.output == "json")
    print_json(evaluation, loaded.model.shape());
  else
    print_table(evaluation, loaded.model.shape());
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
  CLI::Option* base = app->add_option("--base", args->base, "KV spec to compare with on the same tokens")
                          ->needs(prompt)
                          ->check(needs_value);
  CLI::Option* save = app->add_option("--save-base", args->save_base,
                                      "keep the base's logits, or without --base those of --kv, in this file")
                          ->check(needs_value);
  CLI::Option* saved = app->add_option("--base-file", args->base_file,
                                       "compare with the logits that --save-base kept of the same tokens")
                           ->check(needs_value)
                           ->excludes(base)
                           ->excludes(save);
  CLI::Option* reference =
      app->add_option("--reference", args->reference, "compare with these logits: raw float32 [tokens][vocab]");
  CLI::Option* tokens = app->add_option("--reference-tokens", args->reference_tokens,
                                        "JSON with the \"tokens\" that they are of, scored as one prompt");
  reference->needs(tokens)
      ->excludes(file)
      ->excludes(windows)
      ->excludes(first)
      ->excludes(prompt)
      ->excludes(save)
      ->excludes(saved);
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
  add_retrieval(*eval);
  add_generate(*eval);
}

}  // namespace lamina
