// SPDX-License-Identifier: Apache-2.0
// lamina search minicache: measures, on a calibration text, which layers' rows point the same way, and writes the file
// that `--kv "minicache(pairs=auto,map=FILE)"` reads.
#include <iterator>
#include <memory>

#include "base/error.h"
#include "common.h"
#include "engine/minicache_search.h"
#include "search.h"

namespace lamina {
namespace {

struct Arguments : SearchArguments {
  std::string of = "kv", vector = "token";
  bool across_kinds = false;
};

std::string summary(const PairSearch& search, const SearchArguments& args) {
  std::string text = "pairs    ";
  for (const auto& [lower, deeper] : search.pairs) fmt::format_to(std::back_inserter(text), "{}+{} ", lower, deeper);
  fmt::format_to(std::back_inserter(text), "\nuse      --kv 'minicache(pairs=auto,map={})'\n", quoted_output(args));
  return text;
}

void search(const Arguments& args) {
  SearchInput input(args);
  Model& model = input.loaded.model;
  require(model.shape().targets.empty(),
          "{}: trained to share layers; minicache merges layers that each keep rows of their own", args.model.model);
  PairSearch found{.architecture = model.file().architecture(),
                   .calibration = input.calibration,
                   .options = {.keys = args.of != "v",
                               .values = args.of != "k",
                               .by_head = args.vector == "head",
                               .across_kinds = args.across_kinds},
                   .ranking = {},
                   .pairs = {}};
  found.ranking = rank_alike(model, input.loaded.pool, input.sentences, found.options);
  found.pairs = choose_pairs(found.ranking);
  write_result(args, print_pairs(found, model.shape()), summary(found, args));
}

}  // namespace

void add_minicache_search(CLI::App& search_app) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = search_app.add_subcommand("minicache", "which layers' rows point the same way, pair by pair");
  add_calibration_options(*app, *args);
  app->add_option("--of", args->of, "which tensors count: kv, k or v (kv)")->check(CLI::IsMember({"kv", "k", "v"}));
  app->add_option("--vector", args->vector, "the angle of whole rows (token) or the mean of the heads' (head)")
      ->check(CLI::IsMember({"token", "head"}));
  app->add_flag("--across-kinds", args->across_kinds, "pair layers with and without a window as well");
  app->add_option("-o,--output", args->output, "the file of pairs; -: stdout")->required();
  app->callback([args] { search(*args); });
}

}  // namespace lamina
