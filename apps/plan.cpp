// SPDX-License-Identifier: Apache-2.0
// lamina plan: what a cache will take, before anything is loaded. The figures come from running the KV store itself on
// memory that is only counted.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "common.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  std::string output = "text";
  int predict = 0;
};

void plan(const Arguments& args) {
  const ModelFile file = ModelFile::open(args.model.model);
  const ModelConfig config = ModelConfig::from(file);
  const KvShape shape = kv_shape(config);
  const Pos context = context_size(args.model, config);
  require(args.predict < context, "--predict is {}, expected less than the context of {} tokens", args.predict,
          context);
  const auto dense = static_cast<double>(dense_bytes(shape, context).total());
  auto rows = nlohmann::ordered_json::array();
  const auto specs = all_specs(args.model, shape);
  for (const auto& spec : specs) {
    const KvPlan p = plan_kv(spec, shape, context - args.predict, args.predict, args.model.batch);
    rows.push_back({{"kv_spec", spec->text()},
                    {"tokens", context},
                    {"kv_bytes", p.steady.total()},
                    {"rows", p.steady.rows},
                    {"scales", p.steady.scales},
                    {"gains", p.steady.gains},
                    {"positions", p.steady.positions},
                    {"mass", p.steady.mass},
                    {"slack", p.steady.slack},
                    {"kv_ratio", dense / static_cast<double>(p.steady.total())},
                    {"peak_bytes", p.peak_bytes},
                    {"merged_layers", 2 * spec->minicache.pairs.size()},
                    {"no_prefix_reuse", spec->why_no_prefix_reuse()}});
  }
  if (args.output == "json") {
    std::cout << rows.dump(2) << '\n';
    return;
  }
  fmt::print("{}: {} layers, {} KV heads of {}; a prompt of {} tokens in steps of {}\n", config.name, config.layers,
             config.kv_heads, config.head_dim, context, args.model.batch);
  fmt::print("{:>12} {:>6} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n", "bytes", "ratio", "prompt peak",
             "rows", "scales", "gains", "positions", "mass", "slack", "kv");
  for (const auto& row : rows)
    fmt::print("{:>12} {:>6.2f} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n",
               row["kv_bytes"].get<std::size_t>(), row["kv_ratio"].get<double>(), row["peak_bytes"].get<std::size_t>(),
               row["rows"].get<std::size_t>(), row["scales"].get<std::size_t>(), row["gains"].get<std::size_t>(),
               row["positions"].get<std::size_t>(), row["mass"].get<std::size_t>(), row["slack"].get<std::size_t>(),
               row["kv_spec"].get<std::string>());
  for (const auto& spec : specs) {
    if (!merged_layers(*spec).empty())
      fmt::print("{}: {}. Which rows are kept apart depends on the text: here keep={} of them.\n", spec->text(),
                 merged_layers(*spec), spec->minicache.keep);
    if (!spec->why_no_prefix_reuse().empty())
      fmt::print("{}: no prefix of its cache can be used again: {}\n", spec->text(), spec->why_no_prefix_reuse());
  }
}

}  // namespace

void add_plan(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("plan", "bytes that a KV spec takes for a context, before loading a model");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  app->add_option("-n,--predict", args->predict,
                  "how many of the context's tokens are decoded after the prompt: blocks fill in another order then")
      ->check(CLI::Range(0, 1 << 24));
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->callback([args] { plan(*args); });
}

}  // namespace lamina
