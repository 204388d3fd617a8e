// SPDX-License-Identifier: Apache-2.0
// lamina search kvsharer: finds, on a calibration text, which layers can read an earlier layer's rows, and writes the
// strategy file that `--kv "kvsharer(map=FILE)"` reads.
#include "search.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stopwatch.h"
#include "common.h"
#include "engine/calibration.h"
#include "engine/kvsharer_search.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

struct Arguments : SearchArguments {
  KvSharerOptions options;
  std::string share;
};

struct Share {
  double value = 0;
  bool percent = false;
};

std::optional<Share> parse_share(const std::string& text) {
  Share share{.value = 0, .percent = text.ends_with('%')};
  const char* const end = text.data() + text.size() - (share.percent ? 1 : 0);
  const auto [rest, error] = std::from_chars(text.data(), end, share.value);
  const bool fits = share.percent ? share.value < 100 : share.value == std::floor(share.value) && share.value < 1e6;
  if (error != std::errc() || rest != end || !fits || !(share.value > 0)) return std::nullopt;
  return share;
}

int layers_to_share(const Arguments& args, int layers) {
  const Share share = parse_share(args.share).value();
  const auto n = static_cast<int>(std::lround(share.percent ? share.value / 100 * layers : share.value));
  require(n >= 1 && n < layers, "--share {} is {} layers, expected 1 to {} of this model's {}", args.share, n,
          layers - 1, layers);
  return n;
}

OnTrial report(Progress& progress, const KvSharerOptions& options) {
  const char* const score = options.objective == KvSharerObjective::kCosine ? "cosine" : "KL";
  return [&progress, score, share = options.share](const LayerTrial& trial, int shared, double last) {
    require(!interrupted(), "interrupted, no result");
    const std::string known = std::isnan(last) ? "" : fmt::format(", last {} {:.4f}", score, last);
    progress.show(fmt::format("{}/{} layers: layer {} reading layer {}, rank {}{}", shared, share, trial.layer,
                              trial.source, trial.rank, known));
  };
}

std::string summary(const KvSharerSearch& search, const SearchArguments& args) {
  const std::vector<int>& map = search.choice.target;
  const std::string score = search.options.objective == KvSharerObjective::kCosine || search.choice.accepted.empty()
                                ? ""
                                : fmt::format(", KL {:.4f}", search.choice.accepted.back().score);
  return fmt::format(
      "layers   {} of {} read an earlier layer's rows\n"
      "map      {}\n"
      "cosine   {:.4f} over {} sentences of {} tokens{}\n"
      "tries    {} in {:.1f} s\n"
      "use      --kv '{}'\n",
      search.choice.shared(), map.size(), print_layer_types(map), search.cosine, search.calibration.sentences,
      search.calibration.tokens, score, search.choice.tries, search.seconds,
      fmt::format("kvsharer(map={}{})", quoted_output(args), search.options.ranking.across_kinds ? ",kinds=any" : ""));
}

void search(Arguments args) {
  const Stopwatch stopwatch;
  SearchInput input(args);
  Model& model = input.loaded.model;
  args.options.share = layers_to_share(args, model.config().layers);
  KvSharerSearch found;
  {
    Progress progress("search", 0);
    found = search_kvsharer(model, input.loaded.pool, input.sentences, args.options, report(progress, args.options));
  }
  found.architecture = model.file().architecture();
  found.calibration = input.calibration;
  found.seconds = stopwatch.seconds();
  write_result(args, print_kvsharer(found, model.shape()), summary(found, args));
  require(!found.exhausted(), "the ranking is exhausted: {} of {} layers can be shared; {} holds what was found",
          found.choice.shared(), args.options.share, args.output);
}

// Leaves no empty file where none was. "-": stdout.
void require_writable(const std::string& path) {
  if (path == "-") return;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (std::filesystem::exists(path, error))
    require(std::fstream(path, std::ios::in | std::ios::out).is_open(), "{}: cannot write: {}", path,
            std::strerror(errno));
  else
    require(::access(folder.empty() ? "." : folder.c_str(), W_OK) == 0, "{}: cannot write: {}", path,
            std::strerror(errno));
}

template <class Enum>
void add_choice(CLI::App& app, const char* name, Enum& value, std::vector<std::pair<std::string, Enum>> names,
                const char* text) {
  std::vector<std::string> words;
  words.reserve(names.size());
  for (const auto& [word, of] : names) words.push_back(word);
  app.add_option_function<std::string>(
         name,
         [&value, names](const std::string& given) {
           for (const auto& [word, of] : names)
             if (word == given) value = of;
         },
         text)
      ->check(CLI::IsMember(words));
}

void add_judging_options(CLI::App& app, KvSharerOptions& options) {
  using Objective = KvSharerObjective;
  add_choice<Objective>(
      app, "--objective", options.objective,
      {{"cosine", Objective::kCosine}, {"kl", Objective::kKl}, {"beam", Objective::kBeam}},
      "cosine (the paper, default): pair by pair as ranked, each accepted whose map keeps the cosine of the final "
      "states above --threshold; kl: again and again, of the next --candidates ranked pairs the one whose map has the "
      "least KL divergence of the model's output to the unshared model's; beam: scores every pair alone by KL, then "
      "grows the --beam best maps a pair at a time, for each trying the --candidates pairs that were best alone");
  app.add_option("--threshold", options.threshold, "cosine: accept above it (default 0.5)")
      ->check(CLI::Range(-2.0, 1.0));
  app.add_option("--candidates", options.candidates, "kl, beam: pairs tried for one accepted (default 24)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--beam", options.width, "beam: maps kept at a time (default 2)")->check(CLI::Range(1, 1 << 16));
  app.add_option("--kl-sentences", options.kl_sentences,
                 "kl, beam: sentences that KL is taken on, every fourth token (default 8)")
      ->check(CLI::Range(1, 1 << 24));
}

void add_kvsharer(CLI::App& search_app) {
  auto args = std::make_shared<Arguments>();
  KvSharerOptions& options = args->options;
  CLI::App* app = search_app.add_subcommand("kvsharer", "which layers can read an earlier layer's K and V");
  add_calibration_options(*app, *args);
  app->add_option("--share", args->share, "layers that are to read another's rows, as a number or as 25%")
      ->required()
      ->check([](const std::string& text) {
        return parse_share(text) ? ""
                                 : fmt::format("\"{}\", expected a number of layers or a percentage below 100%", text);
      });
  add_choice<LayerDistance>(*app, "--distance", options.ranking.distance,
                            {{"head", LayerDistance::kHead}, {"flat", LayerDistance::kFlat}},
                            "of K and V: head (the authors' code, default): the norm of each head's row, averaged; "
                            "flat (the paper's text): the norm of all rows as one vector");
  add_choice<LayerOrder>(
      *app, "--order", options.ranking.order,
      {{"dissimilar", LayerOrder::kDissimilar}, {"similar", LayerOrder::kSimilar}, {"random", LayerOrder::kRandom}},
      "of trial: dissimilar pairs first (the paper, default), similar ones (default of kl) or random");
  app->add_option_function<std::string>(
      "--seed", [&seed = options.ranking.seed](const std::string& text) { seed = fixed_seed(text); },
      "of --order random (default 1)");
  add_judging_options(*app, options);
  app->add_flag("--across-kinds", options.ranking.across_kinds, "pair layers with and without a window as well");
  app->add_option("--kv", options.kv,
                  "search under the token and bits terms of this spec: half of each sentence is a prompt, the other "
                  "half is fed token by token and judged");
  app->add_option("-o,--output", args->output, "the strategy file; -: stdout")->required();
  app->callback([args, app] {
    // On SmolLM2, 8 of 30 layers end at a KL of 0.34 among similar pairs, of 0.95 among dissimilar ones.
    if (args->options.objective == KvSharerObjective::kKl && app->count("--order") == 0)
      args->options.ranking.order = LayerOrder::kSimilar;
    search(*args);
  });
}

}  // namespace

void add_calibration_options(CLI::App& app, SearchArguments& args) {
  app.add_option("-m,--model", args.model.model, "model file (GGUF) or folder (Hugging Face)")->required();
  app.add_option("-t,--threads", args.model.threads, "threads; 0: one for each processor")->check(CLI::Range(0, 1024));
  app.add_option("--calibration", args.calibration, "text with a sentence a line; -: stdin")->required();
  app.add_option("--sentences", args.sentences, "how many of its lines are used, the first that are long enough (30)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--tokens", args.tokens, "tokens of each, cut there (64)")->check(CLI::Range(1, 1 << 24));
}

SearchInput::SearchInput(const SearchArguments& args) : SearchInput(args, read_file(args.calibration)) {}

SearchInput::SearchInput(const SearchArguments& args, const std::string& text)
    : calibration{args.calibration, sha256_hex(text), args.sentences, args.tokens}, loaded(args.model) {
  const int context = loaded.model.config().context;
  require(args.tokens <= context, "--tokens is {}, the model was trained with {} tokens of context", args.tokens,
          context);
  sentences = cut_sentences(text, args.calibration, args.sentences, args.tokens,
                            [&](std::string_view line) { return loaded.tokenizer.encode(line, false); });
  require_writable(args.output);
}

void write_result(const SearchArguments& args, std::string_view text, std::string_view summary) {
  if (args.output == "-") {
    print_now(text);
  } else {
    std::ofstream file(args.output, std::ios::binary);
    file << text << std::flush;
    require(file.good(), "{}: cannot write: {}", args.output, std::strerror(errno));
  }
  (args.output == "-" ? std::cerr : std::cout) << summary << std::flush;
}

std::string quoted_output(const SearchArguments& args) {
  return lamina::quoted(args.output == "-" ? "FILE" : args.output);
}

void add_search(CLI::App& program) {
  CLI::App* search = program.add_subcommand("search", "find settings for a model");
  search->require_subcommand(1);
  add_kvsharer(*search);
  add_minicache_search(*search);
}

}  // namespace lamina
