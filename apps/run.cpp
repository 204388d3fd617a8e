// SPDX-License-Identifier: Apache-2.0
// lamina run: raw completion of a prompt.
#include <cstdio>
#include <memory>

#include "common.h"
#include "generate.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  PromptArguments prompt;
};

void run(const Arguments& args) {
  const std::string text = prompt_text(args.prompt);
  const SamplerConfig config = sampler_config(args.sampling);
  Loaded loaded(args.model);
  const std::vector<Token> tokens = loaded.encode(text, true);
  Session session(loaded.model, loaded.pool,
                  {.spec = loaded.spec(), .context = loaded.context, .batch = args.model.batch});
  Generator generator(session, loaded.tokenizer, config);
  generator.prompt(tokens);
  generator.generate(args.sampling, print_now);
  print_now("\n");
  generator.report(stderr);
}

}  // namespace

void add_run(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("run", "continue a text");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  add_sampling_options(*app, args->sampling);
  add_prompt_options(*app, args->prompt, "the text to continue");
  app->callback([args] { run(*args); });
}

}  // namespace lamina
