// SPDX-License-Identifier: Apache-2.0
#include "compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace lamina {
namespace {

constexpr std::string_view kOfModel = "model.", kChoice = "choice.", kRetrieval = "retrieval.";
constexpr double kMostDepth = 1 << 30;
constexpr const char *kAgnostic = "query_agnostic", *kAware = "query_aware";

std::optional<double> number(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || !found->is_number() ? std::nullopt : std::optional(found->get<double>());
}

const Json* values_of(const SpecReport& spec, std::string_view measurement) {
  const auto found = spec.results.find(measurement);
  return found == spec.results.end() ? nullptr : &found->second->values;
}

using Value = std::function<std::optional<double>(const SpecReport&)>;

Value value_of(const char* measurement, const char* name) {
  return [=](const SpecReport& spec) { return spec.value(measurement, name); };
}

auto range_of(const char* name) {
  return [=](const SpecReport& spec) -> std::optional<std::pair<double, double>> {
    const Json* const values = values_of(spec, "perplexity");
    if (values == nullptr) return std::nullopt;
    const auto range = values->find(name);
    if (range == values->end() || !range->is_array() || range->size() != 2 || !range->front().is_number() ||
        !range->back().is_number())
      return std::nullopt;
    return std::pair((*range)[0].get<double>(), (*range)[1].get<double>());
  };
}

// The third of a window's scored tokens.
Value kl_at(std::size_t third) {
  return [=](const SpecReport& spec) -> std::optional<double> {
    const Json* const values = values_of(spec, "perplexity");
    if (values == nullptr) return std::nullopt;
    const auto parts = values->find("kl_by_position");
    if (parts == values->end() || !parts->is_array() || third >= parts->size() || !(*parts)[third].is_number())
      return std::nullopt;
    return (*parts)[third].get<double>();
  };
}

// The mean of fn(values) over the spec's measurements of that kind; those where it finds nothing do not count.
template <class Fn>
std::optional<double> mean(const SpecReport& spec, std::string_view kind, Fn fn) {
  double sum = 0;
  int count = 0;
  for (const auto& [name, result] : spec.results) {
    if (!name.starts_with(kind)) continue;
    if (const std::optional<double> x = fn(result->values)) sum += *x, ++count;
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

Value accuracy() {
  return [](const SpecReport& spec) {
    return mean(spec, kChoice, [](const Json& values) { return number(values, "accuracy"); });
  };
}

std::optional<double> found(const Json& values, const char* asked) {
  const auto of = values.find(asked);
  return of == values.end() || !of->is_object() ? std::nullopt : number(*of, "found");
}

Value found_of(const std::string& measurement, const char* asked) {
  return [=](const SpecReport& spec) {
    const Json* const values = values_of(spec, measurement);
    return values == nullptr ? std::nullopt : found(*values, asked);
  };
}

Value retrieval(const char* asked) {
  return [=](const SpecReport& spec) {
    return mean(spec, kRetrieval, [=](const Json& values) { return found(values, asked); });
  };
}

Value ratio(const Report& report) {
  const std::optional<double> dense =
      report.specs.empty() ? std::nullopt : report.specs.front().value("cache", "kv_bytes");
  return [dense](const SpecReport& spec) -> std::optional<double> {
    const std::optional<double> bytes = spec.value("cache", "kv_bytes");
    return dense && bytes ? std::optional(*dense / *bytes) : std::nullopt;
  };
}

std::set<int> depths(const Report& report) {
  std::set<int> depths;
  for (const SpecReport& spec : report.specs)
    for (const auto& [name, result] : spec.results)
      if (name.starts_with("speed."))
        if (const auto depth = number(result->values, "depth"); depth && *depth >= 0 && *depth <= kMostDepth)
          depths.insert(static_cast<int>(*depth));
  return depths;
}

using Better = Column::Better;

void add_quality(std::vector<Column>& all) {
  all.push_back({.title = "perplexity",
                 .digits = 3,
                 .plot = "Perplexity",
                 .value = value_of("perplexity", "perplexity"),
                 .range = range_of("perplexity_95")});
  all.push_back({.title = "KL mean",
                 .about = "KL divergence of the next token's distribution from the dense cache's, in nats.",
                 .digits = 5,
                 .plot = "KL divergence to the dense cache, nats",
                 .logarithmic = true,
                 .value = value_of("perplexity", "kl_mean"),
                 .range = range_of("kl_mean_95")});
  all.push_back({.title = "KL 99 %", .digits = 4, .value = value_of("perplexity", "kl_p99"), .range = {}});
  constexpr const char* kThirds[] = {"KL early", "KL middle", "KL late"};
  for (std::size_t third = 0; third < std::size(kThirds); ++third)
    all.push_back({.title = kThirds[third], .digits = 4, .on_page_only = true, .value = kl_at(third), .range = {}});
  all.push_back({.title = "top-1 %",
                 .about = "Top-1: how often it is the dense cache's most likely token.",
                 .better = Better::kMore,
                 .digits = 1,
                 .scale = 100,
                 .value = value_of("perplexity", "top1_agreement"),
                 .range = range_of("top1_agreement_95")});
  all.push_back({.title = "kept %",
                 .about = "Kept: rows held of those that the text would have.",
                 .digits = 1,
                 .scale = 100,
                 .value = value_of("perplexity", "kept_fraction"),
                 .range = {}});
}

void add_tasks(std::vector<Column>& all) {
  all.push_back({.title = "accuracy %",
                 .about = "Accuracy: of multiple-choice questions after answered examples.",
                 .better = Better::kMore,
                 .digits = 1,
                 .scale = 100,
                 .plot = "Accuracy, %",
                 .value = accuracy(),
                 .range = {}});
  all.push_back({.title = "agnostic %",
                 .about =
                     "Agnostic, aware: found of what is hidden in a context, its cache compressed before the question "
                     "is known or after; of tasks where the dense cache finds half.",
                 .better = Better::kMore,
                 .digits = 1,
                 .scale = 100,
                 .plot = "Retrieval, question not known (agnostic), %",
                 .value = retrieval(kAgnostic),
                 .range = {}});
  all.push_back({.title = "aware %",
                 .better = Better::kMore,
                 .digits = 1,
                 .scale = 100,
                 .plot = "Retrieval, question known (aware), %",
                 .value = retrieval(kAware),
                 .range = {}});
  all.push_back({.title = "ROUGE-L",
                 .about = "ROUGE-L: greedy texts beside the dense cache's.",
                 .better = Better::kMore,
                 .digits = 3,
                 .value = value_of("generation.text", "rouge_l"),
                 .range = {}});
}

Json results_json(const ResultsByName& results, Json Result::*part) {
  Json json = Json::object();
  for (const auto& [name, result] : results) json[name] = result->*part;
  return json;
}

}  // namespace

std::optional<double> SpecReport::value(std::string_view measurement, const char* name) const {
  const Json* const values = values_of(*this, measurement);
  return values == nullptr ? std::nullopt : number(*values, name);
}

std::optional<double> SpecReport::timing(std::string_view measurement, const char* name) const {
  const auto found = results.find(measurement);
  return found == results.end() ? std::nullopt : number(found->second->timing, name);
}

Report Report::of(const ResultsOrigin& origin, const std::vector<Result>& results) {
  Report report{.origin = origin, .specs = {}, .model = {}};
  std::map<std::string, std::size_t> index;  // [key]
  for (const Result& result : results) {
    if (result.measurement.starts_with(kOfModel)) {
      report.model.emplace(result.measurement, &result);
      continue;
    }
    const auto [at, is_new] = index.try_emplace(result.kv_key, report.specs.size());
    if (is_new) report.specs.push_back({.spec = result.kv_spec, .results = {}});
    report.specs[at->second].results.emplace(result.measurement, &result);
  }
  return report;
}

std::optional<double> Report::tokens() const {
  return specs.empty() ? std::nullopt : specs.front().value("cache", "tokens");
}

std::string Column::shown(double x) const { return fmt::format("{:.{}f}", scale * x, digits); }

std::string Column::cell(const SpecReport& spec) const {
  const std::optional<double> x = value(spec);
  return x ? shown(*x) : "-";
}

Column bytes_column() {
  constexpr double kMiB = 1 << 20;
  return {.title = "KV MiB", .digits = 2, .scale = 1 / kMiB, .value = value_of("cache", "kv_bytes"), .range = {}};
}

std::vector<Column> columns(const Report& report) {
  std::vector<Column> all = {bytes_column()};
  all.push_back({.title = "ratio",
                 .about = "Ratio: bytes of the dense f16 cache over the spec's.",
                 .better = Better::kMore,
                 .digits = 2,
                 .value = ratio(report),
                 .range = {}});
  add_quality(all);
  add_tasks(all);
  for (const int depth : depths(report))
    all.push_back({.title = fmt::format("tok/s at {}", depth),
                   .better = Better::kMore,
                   .digits = 1,
                   .plot = fmt::format("Decoding at {} tokens, tokens/s", depth),
                   .value = [name = fmt::format("speed.{}", depth)](
                                const SpecReport& spec) { return spec.timing(name, "tokens_per_second"); },
                   .range = {}});
  return all;
}

std::vector<Column> task_columns(const Report& report) {
  std::set<std::string> names;
  for (const SpecReport& spec : report.specs)
    for (const auto& [name, result] : spec.results)
      if (name.starts_with(kChoice) || (name.starts_with(kRetrieval) && result->values.contains(kAgnostic)))
        names.insert(name);
  std::vector<Column> all;
  const auto add = [&](std::string title, Value value) {
    all.push_back({.title = std::move(title),
                   .better = Better::kMore,
                   .digits = 1,
                   .scale = 100,
                   .value = std::move(value),
                   .range = {}});
  };
  for (const std::string& name : names) {
    const std::string task = name.substr(name.find('.') + 1);
    if (name.starts_with(kChoice)) {
      add(task, [name](const SpecReport& spec) { return spec.value(name, "accuracy"); });
      add(task + ", by length", [name](const SpecReport& spec) { return spec.value(name, "accuracy_norm"); });
    } else {
      add(task + ", agnostic", found_of(name, kAgnostic));
      add(task + ", aware", found_of(name, kAware));
    }
  }
  return all;
}

std::string text_table(const Report& report) {
  std::string out;
  std::vector<std::pair<Column, std::size_t>> shown;  // and their widths
  for (Column& column : columns(report)) {
    if (column.on_page_only) continue;
    std::size_t width = column.title.size();
    for (const SpecReport& spec : report.specs) width = std::max(width, column.cell(spec).size());
    shown.emplace_back(std::move(column), width);
  }
  for (const auto& [column, width] : shown) out += fmt::format("{:>{}}  ", column.title, width);
  out += "kv\n";
  for (const SpecReport& spec : report.specs) {
    for (const auto& [column, width] : shown) out += fmt::format("{:>{}}  ", column.cell(spec), width);
    out += spec.spec + "\n";
  }
  return out;
}

Json to_json(const Report& report) {
  const ResultsOrigin& origin = report.origin;
  Json specs = Json::array();
  for (const SpecReport& spec : report.specs)
    specs.push_back({{"kv_spec", spec.spec},
                     {"values", results_json(spec.results, &Result::values)},
                     {"timing", results_json(spec.results, &Result::timing)}});
  return {{"schema", "lamina.comparison/1"},
          {"model", origin.model},
          {"model_id", origin.model_id},
          {"version", origin.version},
          {"machine", origin.machine},
          {"suite", origin.suite},
          {"data", origin.data},
          {"specs", std::move(specs)},
          {"of_model",
           {{"values", results_json(report.model, &Result::values)},
            {"timing", results_json(report.model, &Result::timing)}}}};
}

}  // namespace lamina
