// SPDX-License-Identifier: Apache-2.0
// lamina tokenize: a text's token ids, and what each stands for.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "common.h"
#include "model/token_classes.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

struct Arguments {
  std::string model;
  PromptArguments prompt;
  bool ids = false, classes = false, no_bos = false, no_parse_special = false;
};

std::string line_of(const Tokenizer& tokenizer, Token token) {
  using nlohmann::json;
  return fmt::format("{:>6} {}\n", token,
                     json(tokenizer.piece(token)).dump(-1, ' ', false, json::error_handler_t::replace));
}

// The vocabulary's special, punctuation and blank tokens, as FastGen goes by them.
void print_classes(const Tokenizer& tokenizer) {
  const std::vector<TokenClass> classes = token_classes(tokenizer);
  for (const auto& [kind, name] :
       {std::pair{TokenClass::kSpecial, "special"}, std::pair{TokenClass::kPunctuation, "punctuation"},
        std::pair{TokenClass::kBlank, "blank"}})
    for (std::size_t token = 0; token < classes.size(); ++token)
      if (classes[token] == kind)
        std::cout << fmt::format("{:<12}{}", name, line_of(tokenizer, static_cast<Token>(token)));
}

void tokenize(const Arguments& args) {
  if (args.classes) return print_classes(load_tokenizer(ModelFile::open(args.model)));
  const std::string text = prompt_text(args.prompt);
  const Tokenizer tokenizer = load_tokenizer(ModelFile::open(args.model));
  const std::vector<Token> tokens = encode(tokenizer, text, !args.no_parse_special, !args.no_bos);
  if (args.ids) {
    std::cout << nlohmann::json(tokens).dump() << '\n';
    return;
  }
  for (const Token token : tokens) std::cout << line_of(tokenizer, token);
}

}  // namespace

void add_tokenize(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("tokenize", "the tokens of a text");
  app->add_option("-m,--model", args->model, "model: a GGUF file or a Hugging Face folder")->required();
  add_prompt_options(*app, args->prompt, "the text");
  app->add_flag("--ids", args->ids, "print a JSON list of ids only");
  app->add_flag("--classes", args->classes,
                "instead of a text's: the special, punctuation and blank tokens, see fastgen");
  app->add_flag("--no-bos", args->no_bos, "no token for the beginning of the text, even where the model asks for one");
  app->add_flag("--no-parse-special", args->no_parse_special, "special tokens in the text are ordinary text");
  app->callback([args] { tokenize(*args); });
}

}  // namespace lamina
