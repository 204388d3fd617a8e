// SPDX-License-Identifier: Apache-2.0
// lamina doctor: whether a model and a KV spec do what they should on this machine. Exit status 1 where something is
// red.
#include "engine/doctor.h"

#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/stopwatch.h"
#include "common.h"
#include "machine_info.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string output = "text";
};

Json to_json(const Figure& figure) {
  const auto limit = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"name", figure.name},
          {"value", std::isfinite(figure.value) ? Json(figure.value) : Json(nullptr)},
          {"yellow", limit(figure.yellow)},
          {"red", limit(figure.red)},
          {"turns", figure.should_be_large ? "below" : "above"}};
}

Json to_json(const Finding& finding) {
  Json figures = Json::array();
  for (const Figure& figure : finding.figures) figures.push_back(to_json(figure));
  return {{"check", finding.check},
          {"health", name(finding.health)},
          {"reason", finding.reason},
          {"figures", std::move(figures)}};
}

std::string coloured(Health health) {
  std::string word = fmt::format("{:<7}", name(health));
  if (::isatty(STDOUT_FILENO) == 0) return word;
  const int code = health == Health::kGreen ? 32 : health == Health::kYellow ? 33 : 31;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, word);
}

std::string limits_of(const Figure& figure) {
  std::string text;
  const char* const sign = figure.should_be_large ? "<" : ">";
  if (figure.yellow && figure.yellow != figure.red) text += fmt::format(", yellow {} {:.6g}", sign, *figure.yellow);
  if (figure.red) text += fmt::format(", red {} {:.6g}", sign, *figure.red);
  return text.empty() ? text : fmt::format(" ({})", text.substr(2));
}

std::string to_text(const Finding& finding) {
  std::string text = fmt::format("{} {:<14} {}\n", coloured(finding.health), finding.check, finding.reason);
  std::string figures;
  for (const Figure& figure : finding.figures)
    if (figure.yellow || figure.red)
      figures += fmt::format("; {} {:.6g}{}", figure.name, figure.value, limits_of(figure));
  if (!figures.empty()) text += fmt::format("{:22} {}\n", "", figures.substr(2));
  return text;
}

void print(const Arguments& args, const Loaded& loaded, const std::vector<Finding>& findings, double seconds) {
  const std::string& spec = loaded.spec()->text();
  const Health health = worst(findings);
  if (args.output == "json") {
    Json checks = Json::array();
    for (const Finding& finding : findings) checks.push_back(to_json(finding));
    const Json report{{"model", loaded.model.config().name}, {"kv_spec", spec},        {"cpu_info", cpu_name()},
                      {"n_threads", loaded.pool.threads()},  {"health", name(health)}, {"seconds", seconds},
                      {"checks", std::move(checks)}};
    return print_now(report.dump(2) + "\n");
  }
  std::string text = fmt::format("{}, kv {}, {} threads of {}\n\n", loaded.model.config().name, spec,
                                 loaded.pool.threads(), cpu_name());
  for (const Finding& finding : findings) text += to_text(finding);
  print_now(text + fmt::format("\n{} after {:.1f} s\n", coloured(health), seconds));
}

void run(const Arguments& args) {
  const Stopwatch watch;
  Loaded loaded(args.model);
  const Patient patient{.model = loaded.model,
                        .tokenizer = loaded.tokenizer,
                        .pool = loaded.pool,
                        .spec = loaded.spec(),
                        .batch = args.model.batch};
  Progress progress("doctor:", 1);
  const std::vector<Finding> findings = examine(patient, {.on_check = [&](const char* check) {
                                                  require(!interrupted(), "interrupted, no result");
                                                  progress.show(check);
                                                }});
  progress.clear();
  print(args, loaded, findings, watch.seconds());
  if (worst(findings) == Health::kRed) throw CLI::RuntimeError(1);
}

}  // namespace

void add_doctor(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("doctor", "check a model and a KV spec on this machine, in under a minute");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  app->remove_option(app->get_option("--ctx-size"));
  app->add_option("-o,--output", args->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  app->footer(
      "Checks that texts survive the tokenizer, dense logits against other kernels and in steps of other sizes, how "
      "far the\n"
      "spec drifts from the dense cache along a text, the cache's rows against a second computation, bytes held "
      "against\n"
      "`lamina plan`, and a step's time against the machine's memory. Exit status: 1 where something is red, otherwise "
      "0.");
  app->callback([args] { run(*args); });
}

}  // namespace lamina
