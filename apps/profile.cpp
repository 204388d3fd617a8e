// SPDX-License-Identifier: Apache-2.0
// lamina profile fastgen: which policy FastGen finds for each layer and head on a text, what each would recover, and
// what finding out costs.
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "common.h"
#include "engine/fastgen_profile.h"

namespace lamina {
namespace {

using nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  PromptArguments prompt;
  double recovery = 0.95;
  std::string options, output;
  int tokens = 0, decode = 128;
};

// Cheapest to dearest: green to red.
constexpr int kColours[] = {46, 118, 190, 214, 196};

std::string cell(std::size_t policy, std::size_t policies, bool colour) {
  const char letter = policy + 1 == policies ? 'F' : static_cast<char>('1' + policy);
  if (!colour) return fmt::format("{}", letter);
  const std::size_t at = policy * (std::size(kColours) - 1) / (policies - 1);
  return fmt::format("\x1b[30;48;5;{}m{}\x1b[0m", kColours[at], letter);
}

void print_grid(const FastGenProfile& profile, bool colour) {
  std::cout << "layer  policy of each KV head (";
  for (std::size_t p = 0; p < profile.policies.size(); ++p)
    std::cout << (p ? ", " : "") << cell(p, profile.policies.size(), colour) << ' ' << profile.policies[p];
  std::cout << ")\n";
  for (std::size_t i = 0; i < profile.heads.size();) {
    const int slot = profile.heads[i].slot;
    std::cout << fmt::format("{:>5}  ", slot);
    std::string rows;
    for (; i < profile.heads.size() && profile.heads[i].slot == slot; ++i) {
      std::cout << cell(profile.heads[i].chosen, profile.policies.size(), colour) << ' ';
      fmt::format_to(std::back_inserter(rows), "{:>6}", profile.heads[i].rows);
    }
    std::cout << "  rows" << rows << '\n';
  }
}

void print_summary(const FastGenProfile& p, std::size_t tokens) {
  std::cout << "\npolicy                            heads   recovers (mean, least)\n";
  for (std::size_t policy = 0; policy < p.policies.size(); ++policy) {
    std::size_t count = 0;
    double sum = 0, least = 1;
    for (const HeadProfile& head : p.heads) {
      count += head.chosen == policy;
      const double r = policy < head.recoveries.size() ? head.recoveries[policy] : 1;
      sum += r;
      least = std::min(least, r);
    }
    std::cout << fmt::format("{:<32} {:>6}   {:.4f} {:.4f}\n", p.policies[policy], count,
                             sum / static_cast<double>(p.heads.size()), least);
  }
  const double profiling = p.prompt_seconds - p.plain_prompt_seconds + p.choice_seconds;
  std::cout << fmt::format(
      "\nkept      {:.1f} % of the rows of {} tokens\n"
      "profiling {:.1f} ms: {:.1f} % of the prompt's {:.1f} ms, {:.2f} % of prompt and {} tokens decoded\n",
      100 * p.kept_fraction, tokens, 1e3 * profiling, 100 * profiling / p.plain_prompt_seconds,
      1e3 * p.plain_prompt_seconds, 100 * profiling / (p.prompt_seconds + p.choice_seconds + p.decode_seconds),
      p.decoded);
}

ordered_json as_json(const FastGenProfile& p, const Arguments& args, const KvSpec& spec, std::size_t tokens) {
  ordered_json heads = ordered_json::array();
  for (const HeadProfile& head : p.heads)
    heads.push_back({{"layer", head.slot},
                     {"head", head.head},
                     {"policy", p.policies[head.chosen]},
                     {"recoveries", head.recoveries},
                     {"rows", head.rows}});
  return {{"schema", "lamina.fastgen/1"},
          {"model", args.model.model},
          {"kv", spec.text()},
          {"tokens", tokens},
          {"policies", p.policies},
          {"kept_fraction", p.kept_fraction},
          {"prompt_seconds", p.prompt_seconds},
          {"plain_prompt_seconds", p.plain_prompt_seconds},
          {"choice_seconds", p.choice_seconds},
          {"decode_seconds", p.decode_seconds},
          {"decoded", p.decoded},
          {"heads", heads}};
}

void profile(Arguments args) {
  const std::string text = prompt_text(args.prompt);
  args.model.specs = {
      fmt::format("fastgen(recovery={}{}{})", args.recovery, args.options.empty() ? "" : ",", args.options)};
  Loaded loaded(args.model);
  std::vector<Token> tokens = loaded.encode(text, true);
  if (args.tokens > 0) {
    require(tokens.size() >= static_cast<std::size_t>(args.tokens), "the text has {} tokens, --tokens asks for {}",
            tokens.size(), args.tokens);
    tokens.resize(static_cast<std::size_t>(args.tokens));
  }
  require(tokens.size() + static_cast<std::size_t>(args.decode) <= static_cast<std::size_t>(loaded.context),
          "{} tokens of text and {} to decode do not fit into the context of {} (see --tokens, --ctx-size)",
          tokens.size(), args.decode, loaded.context);
  std::ofstream file;
  if (!args.output.empty()) {
    file.open(args.output);
    require(file.is_open(), "{}: cannot be written", args.output);
  }
  const FastGenProfile found =
      profile_fastgen(loaded.model, loaded.pool, loaded.spec(), tokens, args.model.batch, args.decode);
  print_grid(found, isatty(STDOUT_FILENO) != 0);
  print_summary(found, tokens.size());
  if (args.output.empty()) return;
  file << as_json(found, args, *loaded.spec(), tokens.size()).dump(2) << '\n' << std::flush;
  require(file.good(), "{}: cannot be written", args.output);
}

}  // namespace

void add_profile(CLI::App& program) {
  CLI::App* group = program.add_subcommand("profile", "what a method finds in a text");
  group->require_subcommand(1);
  auto args = std::make_shared<Arguments>();
  CLI::App* app = group->add_subcommand("fastgen", "FastGen: the policy of each layer and head");
  add_model_options(*app, args->model);
  add_prompt_options(*app, args->prompt, "the text");
  app->add_option("--recovery", args->recovery, "what the kept rows must recover of the attention (0.95)")
      ->check(CLI::Range(0.0, 1.0));
  app->add_option("--options", args->options, "other arguments of fastgen(…), \"group=min,recent=0.2\"");
  app->add_option("--tokens", args->tokens, "take the first so many tokens of the text")->check(CLI::PositiveNumber);
  app->add_option("--decode", args->decode, "tokens to decode, for the share of time (128)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("-o,--output", args->output, "write JSON to this file as well");
  app->callback([args] { profile(*args); });
}

}  // namespace lamina
