// SPDX-License-Identifier: Apache-2.0
#include "eval_perplexity.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common.h"
#include "engine/statistics.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;
using Comparison = Summary::Comparison;

Json number(double value) { return std::isnan(value) ? Json(nullptr) : Json(value); }
Json interval(const Interval& x) { return {number(x.low), number(x.high)}; }
Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json by_position(const std::array<Third, 3>& parts, double Third::*value) {
  Json values = Json::array();
  for (const Third& part : parts) values.push_back(number(part.*value));
  return values;
}

Json to_json(const Evaluation& evaluation, const KvShape& shape, std::size_t i) {
  const Score& score = evaluation.scores[i];
  const KvSpec& spec = *evaluation.specs[i];
  const Summary summary = summarize(score.tokens, score.compared);
  const auto& base = summary.base;
  const auto parts = thirds(score.tokens, score.tokens.size() / evaluation.windows);
  const auto or_null = [&](auto fn) { return base ? Json(fn(*base)) : Json(nullptr); };
  const auto value = [&](double Comparison::*member) {
    return or_null([&](const auto& b) { return number(b.*member); });
  };
  const auto range = [&](Interval Comparison::*member) {
    return or_null([&](const auto& b) { return interval(b.*member); });
  };
  const auto of_parts = [&](double Third::*member) { return base ? by_position(parts, member) : Json(nullptr); };
  const auto dense = static_cast<double>(dense_bytes(shape, score.kv_length).total());
  return {{"kv_spec", spec.text()},
          {"perplexity", summary.perplexity},
          {"tokens", score.tokens.size()},
          {"kl_mean", value(&Comparison::kl_mean)},
          {"kl_median", value(&Comparison::kl_median)},
          {"kl_p99", value(&Comparison::kl_p99)},
          {"top1_agreement", value(&Comparison::top1_agreement)},
          {"kept_fraction", score.kept_fraction},
          {"kv_bytes", score.kv_bytes},
          {"kv_ratio", dense / score.kv_bytes},
          {"base_spec", text_or_null(evaluation.base_spec)},
          {"base_file", text_or_null(evaluation.base_file)},
          {"reference", text_or_null(evaluation.reference)},
          {"base_perplexity", value(&Comparison::base_perplexity)},
          {"perplexity_ratio",
           or_null([&](const Comparison& b) { return number(summary.perplexity / b.base_perplexity); })},
          {"ln_perplexity_error", number(summary.ln_perplexity_error)},
          {"ln_ratio_error", value(&Comparison::ln_ratio_error)},
          {"kl_error", value(&Comparison::kl_error)},
          {"perplexity_95", interval(summary.interval)},
          {"perplexity_ratio_95", range(&Comparison::ratio)},
          {"kl_mean_95", range(&Comparison::kl)},
          {"top1_agreement_95", range(&Comparison::top1)},
          {"perplexity_by_position", by_position(parts, &Third::perplexity)},
          {"kl_by_position", of_parts(&Third::kl_mean)},
          {"top1_by_position", of_parts(&Third::top1_agreement)},
          {"windows", evaluation.windows},
          {"kv_length", score.kv_length},
          {"seconds", score.seconds},
          {"merged_layers", 2 * spec.minicache.pairs.size()},
          {"apart_fraction",
           score.merged.merged + score.merged.apart ? Json(score.merged.apart_fraction()) : Json(nullptr)}};
}

std::vector<Json> all_rows(const Evaluation& evaluation, const KvShape& shape) {
  std::vector<Json> rows;
  for (std::size_t i = 0; i < evaluation.scores.size(); ++i) rows.push_back(to_json(evaluation, shape, i));
  return rows;
}

std::string cell(const Json& value, int digits) {
  return value.is_null() ? std::string("-") : fmt::format("{:.{}f}", value.get<double>(), digits);
}

std::string range_cell(const Json& value, int digits) {
  return value.is_null() ? std::string("-") : fmt::format("{} to {}", cell(value[0], digits), cell(value[1], digits));
}

// The likely ranges of the means, and where in the windows KL grows.
void print_ranges(const std::vector<Json>& rows) {
  fmt::print(
      "\n95 % ranges, tokens taken as independent; KL of the early, middle and late third of each window's scored "
      "tokens\n");
  fmt::print("{:>20} {:>18} {:>20} {:>16} {:>27}  {}\n", "perplexity", "ratio to base", "KL mean", "top-1",
             "KL early middle late", "kv");
  for (const Json& row : rows) {
    std::string parts;
    for (std::size_t i = 0; i < 3; ++i)
      parts +=
          fmt::format("{:>9}", cell(row["kl_by_position"].is_null() ? Json(nullptr) : row["kl_by_position"][i], 5));
    fmt::print("{:>20} {:>18} {:>20} {:>16} {:>27}  {}\n", range_cell(row["perplexity_95"], 3),
               range_cell(row["perplexity_ratio_95"], 4), range_cell(row["kl_mean_95"], 5),
               range_cell(row["top1_agreement_95"], 3), parts, row["kv_spec"].get<std::string>());
  }
}

}  // namespace

void print_json(const Evaluation& evaluation, const KvShape& shape) {
  const std::vector<Json> rows = all_rows(evaluation, shape);
  print_now((rows.size() == 1 ? rows.front() : Json(rows)).dump(2) + "\n");
}

void print_table(const Evaluation& evaluation, const KvShape& shape) {
  const std::vector<Json> rows = all_rows(evaluation, shape);
  fmt::print("{}\n", evaluation.what);
  const std::string beside = evaluation.reference.empty() ? evaluation.base_spec : evaluation.reference;
  const std::string from = evaluation.base_file.empty() ? "" : fmt::format(" of {}", evaluation.base_file);
  if (evaluation.scores.front().compared)
    fmt::print("KL and top-1 beside {}{}, perplexity {}\n", beside, from, cell(rows.front()["base_perplexity"], 4));
  fmt::print("bytes and ratio to dense f16 at {} tokens\n", rows.front()["kv_length"].get<Pos>());
  fmt::print("{:>10} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>11} {:>6}  {}\n", "perplexity", "tokens", "KL mean",
             "median", "99 %", "top-1", "kept", "apart", "kv bytes", "ratio", "kv");
  for (const Json& row : rows)
    fmt::print("{:>10} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>11} {:>6}  {}\n", cell(row["perplexity"], 4),
               row["tokens"].get<std::size_t>(), cell(row["kl_mean"], 6), cell(row["kl_median"], 6),
               cell(row["kl_p99"], 6), cell(row["top1_agreement"], 4), cell(row["kept_fraction"], 4),
               cell(row["apart_fraction"], 4), cell(row["kv_bytes"], 0), cell(row["kv_ratio"], 2),
               row["kv_spec"].get<std::string>());
  print_ranges(rows);
  for (const auto& spec : evaluation.specs)
    if (!merged_layers(*spec).empty()) fmt::print("{}: {}\n", spec->text(), merged_layers(*spec));
}

}  // namespace lamina
