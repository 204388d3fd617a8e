// SPDX-License-Identifier: Apache-2.0
#include "bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "common.h"
#include "kernels/kernels.h"
#include "machine_info.h"

namespace lamina {
namespace {

struct Statistics {
  double mean = 0, deviation = 0, median = 0;
};

Statistics statistics(std::vector<double> samples) {
  const auto n = static_cast<double>(samples.size());
  Statistics s;
  s.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  double squares = 0;
  for (const double x : samples) squares += (x - s.mean) * (x - s.mean);
  if (samples.size() > 1) s.deviation = std::sqrt(squares / (n - 1));
  std::sort(samples.begin(), samples.end());
  s.median = (samples[(samples.size() - 1) / 2] + samples[samples.size() / 2]) / 2;
  return s;
}

std::string human_count(double count) {
  return count < 1e9 ? fmt::format("{:.2f} M", count / 1e6) : fmt::format("{:.2f} B", count / 1e9);
}

}  // namespace

BenchModel BenchModel::of(const ModelFile& file) {
  BenchModel model{.filename = file.path()};
  std::map<TensorType, std::int64_t> weights;
  for (const TensorView& tensor : file.tensors()) {
    model.bytes += tensor.data.size();
    model.parameters += tensor.rows() * tensor.cols();
    weights[tensor.type] += tensor.rows() * tensor.cols();
  }
  const auto most = std::max_element(weights.begin(), weights.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string count = human_count(static_cast<double>(model.parameters));
  count.erase(std::remove(count.begin(), count.end(), ' '), count.end());
  model.type = fmt::format("{} {} {}", file.architecture(), count, name(most->first));
  return model;
}

std::string test_name(const BenchResult& r) {
  std::string text = r.prompt > 0 ? fmt::format("pp{}", r.prompt) : "";
  if (r.gen > 0) text += fmt::format("{}tg{}", text.empty() ? "" : "+", r.gen);
  if (r.depth > 0) text += fmt::format(" @ d{}", r.depth);
  return text;
}

BenchReport::BenchReport(BenchModel model, Layout layout) : model_(std::move(model)), layout_(std::move(layout)) {
  if (layout_.format == "json") fmt::print("[\n");
  if (layout_.format == "md") markdown_header();
  std::fflush(stdout);
}

BenchReport::~BenchReport() {
  if (layout_.format == "json") std::fputs(rows_ > 0 ? "\n]\n" : "]\n", stdout);
  std::fflush(stdout);
}

void BenchReport::add(const BenchResult& result) {
  const nlohmann::ordered_json fields = record(result);
  if (layout_.format == "md") markdown(result, fields);
  if (layout_.format == "csv") csv(fields);
  if (layout_.format == "jsonl") fmt::print("{}\n", fields.dump());
  if (layout_.format == "json") fmt::print("{}{}", rows_ > 0 ? ",\n" : "", fields.dump(2));
  std::fflush(stdout);
  ++rows_;
}

nlohmann::ordered_json BenchReport::record(const BenchResult& r) const {
  std::vector<double> speeds;
  std::vector<std::int64_t> nanoseconds;
  for (const double seconds : r.seconds) {
    speeds.push_back(r.sequences * (r.prompt + r.gen) / seconds);
    nanoseconds.push_back(std::llround(seconds * 1e9));
  }
  const Statistics time = statistics(r.seconds), speed = statistics(speeds);
  return {{"build_commit", build_commit()},
          {"cpu_info", cpu_name()},
          {"isa", name(chosen_isa())},
          {"backends", "CPU"},
          {"model_filename", model_.filename},
          {"model_type", model_.type},
          {"model_size", model_.bytes},
          {"model_n_params", model_.parameters},
          {"n_batch", r.batch},
          {"n_threads", r.threads},
          {"n_parallel", r.sequences},
          {"type_k", r.type_k},
          {"type_v", r.type_v},
          {"kv_spec", r.kv_spec},
          {"n_prompt", r.prompt},
          {"n_gen", r.gen},
          {"n_depth", r.depth},
          {"test_time", r.time},
          {"avg_ns", std::llround(time.mean * 1e9)},
          {"stddev_ns", std::llround(time.deviation * 1e9)},
          {"avg_ts", speed.mean},
          {"stddev_ts", speed.deviation},
          {"median_ts", speed.median},
          {"samples_ns", nanoseconds},
          {"samples_ts", speeds},
          {"kv_bytes", r.kv_bytes},
          {"kv_bytes_read", r.kv_bytes_read},
          {"all_bytes_read", r.all_bytes_read},
          {"kv_ratio", static_cast<double>(r.dense_bytes) / static_cast<double>(r.kv_bytes)}};
}

void BenchReport::markdown_header() {
  columns_ = {{"model", model_.type.size(), true}, {"size", 10}, {"params", 10}, {"backend", 7, true}, {"threads", 7}};
  if (layout_.show_batch) columns_.push_back({"n_batch", 7});
  if (layout_.show_sequences) columns_.push_back({"n_parallel", 10});
  columns_.insert(
      columns_.end(),
      {{"kv", layout_.spec_width, true}, {"test", 15}, {"t/s", 18}, {"kv bytes", 10}, {"read/step", 10}, {"ratio", 6}});
  std::vector<std::string> titles, rules;
  for (Column& column : columns_) {
    column.width = std::max(column.width, column.title.size());
    titles.push_back(column.title);
    rules.push_back(std::string(column.width - 1, '-') + (column.left ? "-" : ":"));
  }
  print_row(titles);
  print_row(rules);
}

void BenchReport::markdown(const BenchResult& r, const nlohmann::ordered_json& record) const {
  std::vector<std::string> cells = {model_.type, human_bytes(static_cast<double>(model_.bytes)),
                                    human_count(static_cast<double>(model_.parameters)), "CPU",
                                    std::to_string(r.threads)};
  if (layout_.show_batch) cells.push_back(std::to_string(r.batch));
  if (layout_.show_sequences) cells.push_back(std::to_string(r.sequences));
  cells.insert(cells.end(),
               {r.kv_spec, test_name(r),
                fmt::format("{:.2f} ± {:.2f}", record["avg_ts"].get<double>(), record["stddev_ts"].get<double>()),
                human_bytes(static_cast<double>(r.kv_bytes)), human_bytes(static_cast<double>(r.all_bytes_read)),
                fmt::format("{:.2f}", record["kv_ratio"].get<double>())});
  print_row(cells);
}

void BenchReport::print_row(const std::vector<std::string>& cells) const {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const Column& column = columns_[i];
    fmt::print(fmt::runtime(column.left ? "| {:<{}} " : "| {:>{}} "), cells[i], column.width);
  }
  fmt::print("|\n");
}

void BenchReport::csv(const nlohmann::ordered_json& record) const {
  const auto line = [&](const std::function<std::string(const std::string&, const nlohmann::ordered_json&)>& cell) {
    std::string text;
    for (const auto& [key, value] : record.items()) {
      text += text.empty() ? "\"" : ",\"";
      for (const char c : cell(key, value)) text.append(c == '"' ? 2 : 1, c);
      text += '"';
    }
    fmt::print("{}\n", text);
  };
  if (rows_ == 0) line([](const auto& key, const auto&) { return key; });
  line([](const auto&, const auto& value) {
    return value.is_string() ? value.template get<std::string>() : value.dump();
  });
}

}  // namespace lamina
