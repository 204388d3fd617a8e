// SPDX-License-Identifier: Apache-2.0
// lamina run: raw completion of a prompt.
#include <cstdio>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "common.h"
#include "generate.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  std::string prompt, file;
};

void run(const Arguments& args) {
  const std::string text = prompt_text(args.prompt, args.file);
  const SamplerConfig config = sampler_config(args.sampling);
  Loaded loaded(args.model);
  const std::vector<Token> tokens = loaded.encode(text, true);
  Session session(loaded.model, loaded.pool,
                  {.spec = loaded.spec(), .context = loaded.context, .batch = args.model.batch});
  Generator generator(session, loaded.tokenizer, config);
  generator.prompt(tokens);
  generator.generate(args.sampling, [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  });
  std::cout << std::endl;
  generator.report(stderr);
}

}  // namespace

void add_run(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("run", "continue a text");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  add_sampling_options(*app, args->sampling);
  app->add_option("-p,--prompt", args->prompt, "the text to continue");
  app->add_option("-f,--file", args->file, "a file that holds it; -: stdin");
  app->callback([args] { run(*args); });
}

}  // namespace lamina
