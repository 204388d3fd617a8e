// SPDX-License-Identifier: Apache-2.0
// lamina tokenize: a text's token ids, and what each stands for.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "common.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

struct Arguments {
  std::string model;
  PromptArguments prompt;
  bool ids = false, no_bos = false, no_parse_special = false;
};

void tokenize(const Arguments& args) {
  const std::string text = prompt_text(args.prompt);
  const Tokenizer tokenizer = load_tokenizer(ModelFile::open(args.model));
  std::vector<Token> tokens = tokenizer.encode(text, !args.no_parse_special);
  if (tokenizer.add_bos() && tokenizer.bos() && !args.no_bos) tokens.insert(tokens.begin(), *tokenizer.bos());
  if (args.ids) {
    std::cout << nlohmann::json(tokens).dump() << '\n';
    return;
  }
  for (const Token token : tokens)
    std::cout << fmt::format("{:>6} ", token)
              << nlohmann::json(tokenizer.piece(token)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
              << '\n';
}

}  // namespace

void add_tokenize(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("tokenize", "the tokens of a text");
  app->add_option("-m,--model", args->model, "model: a GGUF file or a Hugging Face folder")->required();
  add_prompt_options(*app, args->prompt, "the text");
  app->add_flag("--ids", args->ids, "print a JSON list of ids only");
  app->add_flag("--no-bos", args->no_bos, "no token for the beginning of the text, even where the model asks for one");
  app->add_flag("--no-parse-special", args->no_parse_special, "special tokens in the text are ordinary text");
  app->callback([args] { tokenize(*args); });
}

}  // namespace lamina
