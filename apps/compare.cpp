// SPDX-License-Identifier: Apache-2.0
// lamina compare: what KV specs cost, measured by a suite on the same data, as a table, a page and lines of results
// that a run which was ended goes on from.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/new_file.h"
#include "common.h"
#include "compare_html.h"
#include "compare_report.h"
#include "engine/comparison.h"
#include "engine/good_specs.h"
#include "engine/suite.h"
#include "kernels/kernels.h"
#include "kv/spec_parser.h"
#include "machine_info.h"
#include "model/model_identity.h"

namespace lamina {
namespace {

struct Arguments {
  ModelArguments model;
  bool specs_given = false, data_given = false;
  std::string text, data = "../shared/data", suite = "quick", output = "report.html", results;
  int budget = 0;  // percent; 0: of every share
};

bool is_page(const std::string& path) { return path.ends_with(".html"); }

// Says on stderr what the model has no spec of.
std::vector<std::shared_ptr<const KvSpec>> built_in(const Arguments& args, const Loaded& loaded) {
  const SuiteSizes sizes = SuiteSizes::of(args.suite, loaded.context);
  GoodSpecs good = good_specs(args.budget, loaded.model.shape(), sizes.prompt, sizes.scored);
  for (const std::string& why : good.left_out) fmt::print(stderr, "left out, {}\n", why);
  require(!good.specs.empty(), "none of the built-in specs fits this model, expected some of your own: --kv");
  return std::move(good.specs);
}

// The dense cache first, the others as given, none twice.
std::vector<std::shared_ptr<const KvSpec>> specs_of(const Arguments& args, const Loaded& loaded) {
  const KvShape shape = loaded.model.shape();
  std::vector<std::shared_ptr<const KvSpec>> specs = {
      std::make_shared<const KvSpec>(KvSpec::parse("full", shape, UpwardMaps::kAny))};
  for (const auto& spec : args.specs_given ? loaded.specs : built_in(args, loaded))
    if (std::ranges::find(specs, spec->key(), &KvSpec::key) == specs.end()) specs.push_back(spec);
  return specs;
}

// Empty: none. The usual folder need not be there: then what is made of its files is left out.
std::string data_folder(const Arguments& args, const SuiteSizes& sizes) {
  if (args.data == "none") return "";
  std::error_code error;
  if (args.data_given || std::filesystem::is_directory(args.data, error)) return args.data;
  const bool own_text = !args.text.empty();
  const std::string files = fmt::format("{}", fmt::join(data_files(sizes, own_text), ", "));
  require(own_text, "there is no text to measure on: -f TEXT, or --data DIR, a folder that has {}; {} is not there",
          files, args.data);
  fmt::print(stderr, "left out, there is no folder {}: tasks on {}; --data DIR names a folder that has them\n",
             args.data, files);
  return "";
}

// Names may hold bytes that are no text; what is written must be what is read back.
std::string as_text(const std::string& bytes) {
  return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

ResultsOrigin origin_of(const Loaded& loaded, const Suite& suite) {
  return {.model = as_text(loaded.model.config().name),
          .model_id = model_identity(loaded.model.file()),
          .version = build_commit(),
          .machine = as_text(fmt::format("{}, {}", cpu_name(), name(chosen_isa()))),
          .suite = suite.name,
          .data = suite.data};
}

void show(Progress& progress, const CompareState& state) {
  const auto left = static_cast<long>(state.seconds_left);
  progress.show(fmt::format("{}/{} {}{}", state.done + 1, state.measurements, state.measurement,
                            left < 0 ? std::string() : fmt::format("  {}:{:02} left", left / 60, left % 60)));
}

std::string rendered(const std::string& path, const Report& report, const std::string& results) {
  try {
    return is_page(path) ? comparison_page(report) : to_json(report).dump(2) + "\n";
  } catch (const Error& error) {  // lines that somebody has edited
    fail("{}: {}", results, error.what());
  }
}

void write(const std::string& path, std::string_view text) {
  NewFile file(path);
  file.write(text);
  file.finish();
}

std::string results_path(const Arguments& args) {
  return args.results.empty() ? std::filesystem::path(args.output).replace_extension(".jsonl").string() : args.results;
}

void run(const Arguments& args) {
  Loaded loaded(args.model);
  const SuiteFiles files{.text = args.text, .data = data_folder(args, SuiteSizes::of(args.suite, loaded.context))};
  const std::string results = results_path(args);
  require(results != args.output, "{}: is to be both the report and its --results", results);
  const Suite suite = make_suite(args.suite, files, loaded.tokenizer, loaded.context);
  ResultsFile file(results, origin_of(loaded, suite));
  { const NewFile report(args.output); }  // where it cannot be written, that is said before anything is measured
  const auto specs = specs_of(args, loaded);
  {
    Progress progress("compare", 0);
    const Subject subject{
        .model = loaded.model, .tokenizer = loaded.tokenizer, .pool = loaded.pool, .batch = args.model.batch};
    compare(suite, subject, specs, file, [&](const CompareState& state) {
      require(!interrupted(), "interrupted; what was measured is in {}, the same command goes on from there",
              file.path());
      show(progress, state);
    });
  }
  const Report report = Report::of(file.origin(), file.results());
  write(args.output, rendered(args.output, report, file.path()));
  print_now(text_table(report));
  fmt::print(stderr, "{}: the report. {}: the lines that it is made of; the same command goes on from them\n",
             args.output, file.path());
}

// "25" or "25%"; none where there are no specs of that share.
std::optional<int> share_of(std::string_view text) {
  if (text.ends_with('%')) text.remove_suffix(1);
  for (const int share : good_shares())
    if (text == std::to_string(share)) return share;
  return std::nullopt;
}

std::string known_share(const std::string& text) {
  if (share_of(text)) return "";
  return fmt::format("\"{}\" is unknown, expected one of {}%", excerpt(text), fmt::join(good_shares(), "%, "));
}

std::string known_output(const std::string& path) {
  if (is_page(path) || path.ends_with(".json")) return "";
  return fmt::format("\"{}\" is unknown, expected FILE.html or FILE.json", path);
}

}  // namespace

void add_compare(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("compare", "what KV specs cost: a suite of measurements, one page");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  CLI::Option* kv = app->get_option("--kv");
  app->add_option("--suite", args->suite, "quick (minutes on a small model, the default) or full")
      ->check(CLI::IsMember(suite_names()));
  app->add_option_function<std::string>(
         "--budget", [args](const std::string& text) { args->budget = share_of(text).value(); },
         fmt::format("without --kv: built-in specs that hold at most this share of the dense cache's bytes after one "
                     "of the suite's texts, as plan counts them: {}% (default: of each share)",
                     fmt::join(good_shares(), "%, ")))
      ->check(known_share)
      ->excludes(kv);
  CLI::Option* data = app->add_option("--data", args->data,
                                      "folder of public data sets, see README.md (../shared/data if that is there); "
                                      "none: leave out what needs them");
  app->add_option("-f,--file", args->text, "the text for perplexity, speed and samples (default: those of --data)");
  app->add_option("-o,--output", args->output, "FILE.html or FILE.json (report.html)")->check(known_output);
  app->add_option("--results", args->results,
                  "lines of results, which a run that was ended goes on from (default: FILE.jsonl)")
      ->check(needs_value);
  app->footer(
      "Example: lamina compare -m MODEL.gguf -f TEXT --kv \"k8v8;snapkv(keep=0.25)\" -o report.html\n"
      "         lamina compare -m MODEL.gguf -f TEXT --budget 25%");
  app->callback([args, kv, data] {
    args->specs_given = kv->count() > 0;
    args->data_given = data->count() > 0;
    run(*args);
  });
}

}  // namespace lamina
