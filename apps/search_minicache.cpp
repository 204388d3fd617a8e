// SPDX-License-Identifier: Apache-2.0
// lamina search minicache: measures, on a calibration text, which layers' rows point the same way, and writes the file
// that `--kv "minicache(pairs=auto,map=FILE)"` reads.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "common.h"
#include "engine/calibration.h"
#include "engine/minicache_search.h"
#include "kv/spec_parser.h"
#include "search.h"

namespace lamina {
namespace {

using nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string calibration, of = "kv", vector = "token", output;
  int sentences = 30, tokens = 64;
  bool across_kinds = false;
};

std::string print(const Arguments& args, const std::vector<PairDistance>& ranking,
                  const std::vector<std::pair<int, int>>& pairs, const Model& model, const std::string& text) {
  const KvShape shape = model.shape();
  const ordered_json head{
      {"schema", "lamina.minicache/1"},
      {"model",
       {{"architecture", model.file().architecture()}, {"layers", shape.layers}, {"shapes_sha256", shape.fingerprint}}},
      {"calibration",
       {{"file", args.calibration},
        {"sha256", sha256_hex(text)},
        {"sentences", args.sentences},
        {"tokens", args.tokens}}},
      {"options", {{"of", args.of}, {"vector", args.vector}, {"across_kinds", args.across_kinds}}}};
  std::string out = head.dump(2);
  out.resize(out.size() - 2);  // "\n}"
  fmt::format_to(std::back_inserter(out), ",\n  \"pairs\": {},\n  \"ranking\": [", ordered_json(pairs).dump());
  for (const PairDistance& pair : ranking)
    fmt::format_to(std::back_inserter(out), "{}\n    [{}, {}, {}]", &pair == ranking.data() ? "" : ",", pair.lower,
                   pair.deeper, pair.distance);
  return out + "\n  ]\n}\n";
}

void search(const Arguments& args) {
  const std::string text = read_file(args.calibration);
  Loaded loaded(args.model);
  const auto sentences = cut_sentences(text, args.calibration, args.sentences, args.tokens,
                                       [&](std::string_view line) { return loaded.tokenizer.encode(line, false); });
  require_writable(args.output);
  require(loaded.model.shape().targets.empty(),
          "{}: trained to share layers; minicache merges layers that each keep rows of their own", args.model.model);
  const MiniCache config{.by_head = args.vector == "head", .keys = args.of != "v", .values = args.of != "k"};
  const auto ranking = rank_alike(loaded.model, loaded.pool, sentences, config, args.across_kinds);
  const auto pairs = choose_pairs(ranking);
  write_result(args.output, print(args, ranking, pairs, loaded.model, text));
  std::string summary = "pairs    ";
  for (const auto& [lower, deeper] : pairs) fmt::format_to(std::back_inserter(summary), "{}+{} ", lower, deeper);
  fmt::format_to(std::back_inserter(summary), "\nuse      --kv 'minicache(pairs=auto,map={})'\n",
                 lamina::quoted(args.output == "-" ? "FILE" : args.output));
  (args.output == "-" ? std::cerr : std::cout) << summary << std::flush;
}

}  // namespace

void add_minicache_search(CLI::App& search_app) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = search_app.add_subcommand("minicache", "which layers' rows point the same way, pair by pair");
  add_calibration_options(*app, args->model, args->calibration, args->sentences, args->tokens);
  app->add_option("--of", args->of, "which tensors count: kv, k or v (kv)")->check(CLI::IsMember({"kv", "k", "v"}));
  app->add_option("--vector", args->vector, "the angle of whole rows (token) or the mean of the heads' (head)")
      ->check(CLI::IsMember({"token", "head"}));
  app->add_flag("--across-kinds", args->across_kinds, "pair layers with and without a window as well");
  app->add_option("-o,--output", args->output, "the file of pairs; -: stdout")->required();
  app->callback([args] { search(*args); });
}

}  // namespace lamina
