// SPDX-License-Identifier: Apache-2.0
// The command line of lamina bench.
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <regex>

#include "bench.h"

namespace lamina {
namespace {

// "512,1024", "128-512" (every number), "128-512+128", "128-8192*2".
std::vector<int> parse_list(const std::string& option, const std::string& text, int least) {
  static const std::regex kItem(R"((\d{1,7})(?:-(\d{1,7})(?:([+*])(\d{1,7}))?)?)");
  constexpr std::size_t kMostNumbers = 1000;
  std::vector<int> list;
  for (const std::string& item : CLI::detail::split(text, ',')) {
    const auto bad = [&](const std::string& why) {
      return CLI::ValidationError(option, fmt::format("\"{}\" {}", item, why));
    };
    std::smatch part;
    if (!std::regex_match(item, part, kItem))
      throw bad("is not a number of up to 7 digits, FIRST-LAST, FIRST-LAST+STEP or FIRST-LAST*FACTOR");
    const int first = std::stoi(part[1]), last = part[2].matched ? std::stoi(part[2]) : first;
    const int step = part[4].matched ? std::stoi(part[4]) : 1;
    const bool multiplies = part[3] == "*";
    if (first < least) throw bad(fmt::format("is out of range, expected numbers from {} on", least));
    if (first > last) throw bad("is empty");
    if (multiplies ? step < 2 || first == 0 : step < 1) throw bad("does not advance");
    for (std::int64_t n = first; n <= last; n = multiplies ? n * step : n + step) {
      if (list.size() == kMostNumbers) throw bad(fmt::format("is too long: more than {} numbers", kMostNumbers));
      list.push_back(static_cast<int>(n));
    }
  }
  if (list.empty()) throw CLI::ValidationError(option, "the list is empty");
  return list;
}

void add_list(CLI::App& app, const std::string& names, std::vector<int>& list, int least, const std::string& text) {
  const std::string option = names.substr(0, names.find(','));
  app.add_option_function<std::string>(
      names, [option, &list, least](const std::string& value) { list = parse_list(option, value, least); }, text);
}

void check_output(const BenchArguments& args) {
  if (args.profile && args.output.ends_with(".html")) return;
  const auto refuse = [&](const std::string& expected) {
    throw CLI::ValidationError("--output", fmt::format("\"{}\" is unknown, expected {}", args.output, expected));
  };
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), args.output) != names.end();
  };
  if ((args.machine || args.kv_budget > 0) && !is({"md", "json"})) refuse("md or json");
  if (args.profile && !is({"md"})) refuse("md or FILE.html");
  if (!is({"md", "json", "jsonl", "csv"})) refuse("md, json, jsonl or csv");
}

void bench(const BenchArguments& args) {
  check_output(args);
  if (args.machine) return bench_machine(args);
  if (args.model.model.empty()) throw CLI::RequiredError("--model");
  if (args.kv_budget > 0) return bench_throughput(args);
  if (args.tests().empty()) throw CLI::ValidationError("-p, -n", "no test is left");
  bench_model(args);
}

}  // namespace

std::vector<BenchTest> BenchArguments::tests() const {
  std::vector<BenchTest> tests;
  for (const int n : prompts)
    if (n > 0) tests.push_back({.prompt = n});
  for (const int n : gens)
    if (n > 0) tests.push_back({.gen = n});
  tests.insert(tests.end(), pairs.begin(), pairs.end());
  return tests;
}

void add_bench(CLI::App& program) {
  auto args = std::make_shared<BenchArguments>();
  CLI::App* app =
      program.add_subcommand("bench", "measure prompt and generation speed; numbers may be lists a,b and ranges");
  app->footer("Ranges: FIRST-LAST, FIRST-LAST+STEP, FIRST-LAST*FACTOR. 0 leaves a kind of test out.");
  app->add_option("-m,--model", args->model.model, "model: a GGUF file or a Hugging Face folder");
  add_kv_options(*app, args->model);
  add_list(*app, "-p,--n-prompt", args->prompts, 0, "tokens of a prompt (512)");
  add_list(*app, "-n,--n-gen", args->gens, 0, "tokens to generate (128)");
  add_list(*app, "-d,--n-depth", args->depths, 0, "tokens that the cache holds before (0)");
  add_list(*app, "-b,--batch-size", args->batches, 1, "most prompt tokens in one step (512)");
  add_list(*app, "-t,--threads", args->threads, 0, "threads; 0: one for each processor (0)");
  add_list(*app, "--parallel", args->sequences, 1, "-np: sequences side by side, each with a cache of its own (1)");
  CLI::Option* budget =
      app->add_option("--kv-budget", args->kv_budget,
                      "as many sequences of -c tokens as these bytes of cache hold, the last -n decoded as one batch: "
                      "throughput beside the machine's bound, e.g. 760MiB")
          ->transform(CLI::AsSizeValue(false))
          ->excludes("--parallel")
          ->excludes("--n-prompt")
          ->excludes("--n-depth");
  CLI::Option* file = app->add_option(
      "-f,--file", args->file, "the text that sequences of --kv-budget are cut from (default: pseudo-random tokens)");
  file->needs(budget);
  app->add_option("-c,--ctx-size", args->model.context,
                  "tokens of each sequence of --kv-budget (default: what the model was trained with)")
      ->check(CLI::Range(1, 1 << 24))
      ->needs(budget);
  app->add_option_function<std::string>(
      "--prompt-gen",
      [args](const std::string& text) {
        const std::vector<int> pair = parse_list("-pg", text, 1);
        if (pair.size() != 2) throw CLI::ValidationError("-pg", "\"" + text + "\" is not PROMPT,GEN");
        args->pairs = {{.prompt = pair[0], .gen = pair[1]}};
      },
      "-pg PROMPT,GEN: a prompt and a generation timed as one");
  app->add_option("-r,--repetitions", args->repetitions, "runs of each test, after a warm-up (5)")
      ->check(CLI::Range(1, 1000));
  app->add_flag("--machine", args->machine, "measure what this machine can do, by threads, without a model")
      ->excludes("--model");
  app->add_flag("--profile", args->profile, "each operation's time, and the share of what the machine can do")
      ->excludes("--machine")
      ->excludes(budget);
  app->add_option("-o,--output", args->output,
                  "md, json, jsonl or csv (md); with --machine and --kv-budget md or json; with --profile md, or "
                  "FILE.html to be written");
  app->callback([args] { bench(*args); });
}

}  // namespace lamina
