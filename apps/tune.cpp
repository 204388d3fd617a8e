// SPDX-License-Identifier: Apache-2.0
// lamina tune: what of the cache may be folded, on a model and a text of the user's own, for a budget of bytes. Writes
// a policy file, which every --kv takes.
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/new_file.h"
#include "base/sha256.h"
#include "base/stopwatch.h"
#include "common.h"
#include "kv/spec_parser.h"
#include "tune_report.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  std::string budget, file;
  std::vector<std::string> outputs;
  Floor floor;
  TuneSizes sizes;
  bool prompt_given = false, speed = false;
};

struct Output {
  bool json = false;
  std::string policy;  // empty: none is written
};

// -o names the form of what is printed, or the policy file.
Output output_of(const std::vector<std::string>& names) {
  Output output;
  for (const std::string& name : names) {
    if (name == "text" || name == "json") {
      output.json = name == "json";
      continue;
    }
    require(name.ends_with(".json"), "-o is \"{}\", expected text, json or a policy file, whose name ends in .json",
            excerpt(name));
    require(output.policy.empty(), "-o names two policy files, expected at most one");
    output.policy = name;
  }
  return output;
}

// "25%" of the dense cache's bytes, or "6000000", "6MiB".
std::size_t budget_bytes(const std::string& text, std::size_t dense) {
  const std::string expected = "a share such as 25% or bytes such as 6000000 or 6MiB";
  double value = 0;
  if (text.ends_with('%')) {
    const char* const end = text.data() + text.size() - 1;
    const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
    require(error == std::errc() && rest == end && value > 0 && value < 100, "--budget is \"{}\", expected {}",
            excerpt(text), expected);
    return static_cast<std::size_t>(std::floor(value / 100 * static_cast<double>(dense)));
  }
  std::string bytes = text;
  std::size_t most = 0;
  bool is_size = false;
  try {
    is_size = CLI::AsSizeValue(false)(bytes).empty();
  } catch (const CLI::Error&) {  // in words that say nothing of shares
  }
  const auto [rest, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), most);
  require(is_size && error == std::errc() && rest == bytes.data() + bytes.size() && most > 0,
          "--budget is \"{}\", expected {}", excerpt(text), expected);
  return most;
}

// The lengths of windows; the prompt is shorter where the context is.
TuneSizes sizes_of(const Arguments& args, Pos context) {
  TuneSizes sizes = args.sizes;
  const auto most = static_cast<std::size_t>(context);
  require(sizes.scored < most, "--score is {}, expected less than the {} tokens of context", sizes.scored, most);
  if (!args.prompt_given) sizes.prompt = std::min(sizes.prompt, most - sizes.scored);
  require(sizes.prompt <= most - sizes.scored,
          "--prompt {} and --score {} make a window longer than the {} tokens of context", sizes.prompt, sizes.scored,
          most);
  return sizes;
}

void show_progress(Progress& progress, const Stopwatch& watch, std::string_view stage, double share) {
  require(!interrupted(), "interrupted, no result");
  const long left = share > 0.01 ? std::lround(watch.seconds() / share * (1 - share)) : 0;
  const std::string rest = left > 0 ? fmt::format("  {}:{:02} left", left / 60, left % 60) : "";
  progress.show(fmt::format("{:.0f} %  {}{}", 100 * share, stage, rest));
}

// How far the closest is from the floor.
std::string missed(const Floor& floor, const TuneResult& result) {
  const Alternative& closest = result.chosen();
  return fmt::format("none of the {} specs verified on held-out text meets the floor; the closest, \"{}\", has {}",
                     result.finalists, closest.candidate.spec->text(), floor.figure(closest));
}

TuneQuestion question_of(const Arguments& args, const Loaded& loaded, const TuneSizes& sizes, const std::string& text) {
  const Pos scored = static_cast<Pos>(sizes.scored), window = static_cast<Pos>(sizes.prompt) + scored;
  const Pos context = args.model.context > 0 ? loaded.context : window;
  const KvShape shape = loaded.model.shape();
  const std::size_t dense = ByteBudget{.shape = shape, .prompt = context - scored, .decoded = scored}.dense();
  const std::size_t most = budget_bytes(args.budget, dense);
  require(most < dense, "--budget is {} bytes, expected less than the dense cache's {} after {} tokens", most, dense,
          context);
  return {.model = loaded.model.config().name,
          .architecture = loaded.model.file().architecture(),
          .shape = shape,
          .file = args.file,
          .sha256 = sha256_hex(text),
          .options = {.most_bytes = most, .context = context, .floor = args.floor, .speed = args.speed},
          .sizes = sizes};
}

void run(const Arguments& args) {
  const Output output = output_of(args.outputs);
  const std::string text = read_file(args.file);
  Loaded loaded(args.model);
  const Tokenizer& tokenizer = loaded.tokenizer;
  const TuneSizes sizes = sizes_of(args, loaded.context);
  const TuneText windows =
      cut_tune_text(tokenizer.encode(text, false), sizes, tokenizer.add_bos() ? tokenizer.bos() : std::nullopt);
  TuneQuestion question = question_of(args, loaded, sizes, text);
  question.sizes.selection = windows.selection.size();
  question.sizes.held_out = windows.held_out.size();
  std::optional<NewFile> file;  // before minutes of work
  if (!output.policy.empty()) file.emplace(output.policy);
  TuneResult result;
  {
    const Stopwatch watch;
    Progress progress("tune", 0);
    const Subject subject{
        .model = loaded.model, .tokenizer = tokenizer, .pool = loaded.pool, .batch = args.model.batch};
    result = tune(subject, windows, question.options,
                  [&](std::string_view stage, double share) { show_progress(progress, watch, stage, share); });
  }
  const bool is_met = result.decision.meets_floor;
  if (file && is_met) {
    file->write(policy_text(question, result));
    file->finish();
  }
  const std::string spec = file ? output.policy : fmt::format("'{}'", result.chosen().candidate.spec->text()),
                    use = is_met ? fmt::format("use     --kv {}\n", spec) : "";
  print_now(output.json ? tune_json(question, result).dump(2) + "\n"
                        : tune_text(question, result, ::isatty(STDOUT_FILENO) != 0) + use);
  require(is_met, "{}", missed(args.floor, result));
}

void add_options(CLI::App& app, Arguments& args) {
  app.add_option("-m,--model", args.model.model, "model: a GGUF file or a Hugging Face folder")->required();
  app.add_option(
         "--budget", args.budget,
         "bytes of the whole cache: a share of the dense cache's such as 25%, or bytes such as 6000000 or 6MiB; a "
         "number alone counts bytes")
      ->required();
  app.add_option("-c,--ctx-size", args.model.context, "after so many tokens (default: --prompt and --score)")
      ->check(CLI::Range(2, 1 << 30));
  app.add_option("-f,--file,--calibration", args.file, "a text like those to come; -: stdin")->required();
  CLI::Option* top1 = app.add_option_function<double>(
      "--floor-top1", [&args](double value) { args.floor.top1 = value; },
      "the least share of held-out tokens for which the dense cache's most likely token stays so, e.g. 0.95");
  top1->check(CLI::Range(0.0, 1.0));
  app.add_option_function<double>(
         "--max-kl", [&args](double value) { args.floor.kl = value; },
         "the most KL divergence to the dense cache on held-out text, e.g. 0.05")
      ->check(CLI::Range(0.0, 100.0))
      ->excludes(top1);
  app.add_flag("--speed", args.speed, "measure how fast the finalists decode, and prefer the fastest of equal quality");
  app.add_option("-o,--output", args.outputs, "FILE.json: the policy file; text or json: what is printed")
      ->allow_extra_args(false);
  app.add_option("-b,--batch-size", args.model.batch, "most prompt tokens in one step")->check(CLI::Range(1, 1 << 24));
  app.add_option("-t,--threads", args.model.threads, "threads; 0: one for each processor")->check(CLI::Range(0, 1024));
  app.add_option_function<std::size_t>(
         "--prompt",
         [&args](std::size_t tokens) {
           args.sizes.prompt = tokens;
           args.prompt_given = true;
         },
         "tokens of each window's prompt (1024, or what the context leaves)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--score", args.sizes.scored, "tokens that are fed after it one by one and scored (64)")
      ->check(CLI::Range(2, 1 << 24));
  app.add_option("--windows", args.sizes.selection, "windows of the text to select on (4)")
      ->check(CLI::Range(2, 1 << 16));
  app.add_option("--held-out", args.sizes.held_out, "windows of the text to verify the choice on (8)")
      ->check(CLI::Range(2, 1 << 16));
}

}  // namespace

void add_tune(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("tune", "choose a KV spec for a budget of bytes, on a text of your own");
  add_options(*app, *args);
  app->footer(
      "Takes 4 to 5 minutes for a model of 100 to 300 million weights on two cores, larger ones in proportion; the\n"
      "time left is shown. Each axis is measured in all layers at once, by layer and by KV head, and layers get what\n"
      "costs least together. Heads are shown only; policies by head compete as fastgen(recovery=...).\n\n"
      "  lamina tune -m MODEL --budget 25% -f TEXT --floor-top1 0.95 -o policy.json\n"
      "  lamina run -m MODEL --kv policy.json -p \"...\"");
  app->callback([args] { run(*args); });
}

}  // namespace lamina
