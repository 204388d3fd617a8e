// SPDX-License-Identifier: Apache-2.0
#include "tune_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "common.h"
#include "engine/statistics.h"
#include "kv/layers/strategy_file.h"
#include "kv/policy_file.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;  // figures that are not finite are written as null

Json figures_json(const Figures& figures) {
  if (figures.kl.empty()) return nullptr;
  const Estimate kl = estimate(figures.kl), top1 = estimate(figures.top1);
  return {{"windows", figures.kl.size()},
          {"kl_mean", kl.mean},
          {"kl_error", kl.error},
          {"top1_agreement", top1.mean},
          {"top1_error", top1.error},
          {"kept_fraction", mean(figures.kept)},
          {"kv_bytes_measured", mean(figures.bytes)},
          {"kl_by_window", figures.kl}};
}

double ratio(const Alternative& a, const TuneResult& result) {
  return static_cast<double>(result.dense_bytes) / static_cast<double>(a.candidate.bytes);
}

Json alternative_json(const Alternative& a, const TuneResult& result) {
  Json json{{"kv_spec", a.candidate.spec->text()},    {"axes", a.candidate.axes.text()},
            {"kv_bytes", a.candidate.bytes},          {"kv_ratio", ratio(a, result)},
            {"selection", figures_json(a.selection)}, {"held_out", figures_json(a.held_out)}};
  if (a.tokens_per_second) json["tokens_per_second"] = *a.tokens_per_second;
  return json;
}

Json budget_json(const TuneQuestion& q, const TuneResult& result) {
  const auto or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"kv_bytes", q.options.most_bytes},      {"tokens", q.options.context},
          {"dense_bytes", result.dense_bytes},     {"floor_top1", or_null(q.options.floor.top1)},
          {"max_kl", or_null(q.options.floor.kl)}, {"speed", q.options.speed}};
}

Json calibration_json(const TuneQuestion& q) {
  return {{"file", q.file},
          {"sha256", q.sha256},
          {"prompt_tokens", q.sizes.prompt},
          {"scored_tokens", q.sizes.scored},
          {"selection", q.sizes.selection},
          {"held_out", q.sizes.held_out}};
}

// What one fold costs in each layer, or KV head, alone.
struct CostLine {
  std::string axis, what;
  std::vector<double> kl;
  double all;  // NaN: not known
};

std::vector<CostLine> layer_lines(const Sensitivity& found) {
  std::vector<CostLine> lines;
  const auto add = [&](std::string axis, std::string what, const LayerCosts& costs) {
    lines.push_back({std::move(axis), std::move(what), costs.kl, costs.together});
  };
  for (const BitsCosts& of : found.bits) add("bits", of.bits.term(), of.costs);
  for (const RowsCosts& of : found.rows)
    add("tokens", fmt::format("{} {}", of.method.name, share_text(of.keep)), of.costs);
  if (!found.sharing.source.empty()) add("layers", "reads an earlier layer", found.sharing.costs);
  return lines;
}

// all: the sum of those that could be asked.
std::vector<CostLine> head_lines(const TuneResult& result) {
  std::vector<CostLine> lines;
  const auto add = [&](std::string axis, std::string what, double HeadCosts::*kl) {
    CostLine& line = lines.emplace_back(CostLine{std::move(axis), std::move(what), {}, 0});
    for (const HeadCosts& head : result.heads) {
      line.kl.push_back(head.*kl);
      if (std::isfinite(head.*kl)) line.all += head.*kl;
    }
  };
  const HeadFolds& folds = result.head_folds;
  if (folds.bits) add("bits", folds.bits->term(), &HeadCosts::bits);
  if (folds.method) add("tokens", fmt::format("{} {}", folds.method->name, share_text(folds.keep)), &HeadCosts::tokens);
  if (!folds.source.empty()) add("layers", "reads an earlier layer's", &HeadCosts::layers);
  return lines;
}

// A character for each value, taller for more of the largest; blank where a value is not finite. Green to red.
std::string strip(const std::vector<double>& values, double largest, bool colours) {
  constexpr std::array kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  constexpr std::array kColours = {32, 32, 32, 33, 33, 33, 31, 31};  // green, yellow, red
  std::string text;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      text += ' ';
      continue;
    }
    const double share = largest > 0 ? std::clamp(value / largest, 0.0, 1.0) : 0;
    const auto step = std::min(kBars.size() - 1, static_cast<std::size_t>(share * static_cast<double>(kBars.size())));
    text += colours ? fmt::format("\x1b[{}m{}", kColours.at(step), kBars.at(step)) : std::string(kBars.at(step));
  }
  return colours ? text + "\x1b[0m" : text;
}

std::string cost_text(const std::vector<CostLine>& lines, bool colours) {
  std::string text;
  for (const CostLine& line : lines) {
    double most = 0;
    for (const double kl : line.kl) most = std::isfinite(kl) ? std::max(most, kl) : most;
    text += fmt::format("{:<6}  {:<26} {}  most {:.5f}{}\n", line.axis, line.what, strip(line.kl, most, colours), most,
                        std::isfinite(line.all) ? fmt::format("   all {:.4f}", line.all) : "");
  }
  return text;
}

std::string sensitivity_text(const TuneResult& result, bool colours) {
  const Sensitivity& found = result.sensitivity;
  if (found.bits.empty() && found.rows.empty()) return {};
  std::vector<double> kept;
  std::ranges::transform(result.heads, std::back_inserter(kept), &HeadCosts::kept);
  return fmt::format(
      "\nKL of each layer alone, from the lowest up; the tallest of a line is its most\n{}"
      "\nKL of each KV head alone, from the lowest layer up; all: the sum\n{}"
      "Rows that each needs for 95 % of its attention, as FastGen finds them: a share of the prompt's. Specs name no "
      "heads,\nthis is shown only; policies by head compete as fastgen(recovery=…)\n"
      "{:<6}  {:<26} {}\n",
      cost_text(layer_lines(found), colours), cost_text(head_lines(result), colours), "tokens", "fastgen 0.95",
      strip(kept, 1, colours));
}

std::string row(const Alternative& a, const TuneResult& result, bool chosen) {
  const Estimate held_out = estimate(a.held_out.kl);
  const std::string speed = a.tokens_per_second ? fmt::format(" {:>7.1f}", *a.tokens_per_second) : "";
  return fmt::format("{} {:>11} {:>6.2f} {:>12.5f} {:>18} {:>7.2f} {:>6.3f}{}  {}", chosen ? "*" : " ",
                     a.candidate.bytes, ratio(a, result), mean(a.selection.kl),
                     fmt::format("{:.5f} +-{:.5f}", held_out.mean, held_out.error), 100 * mean(a.held_out.top1),
                     mean(a.selection.kept), speed, a.candidate.spec->text());
}

std::string table_text(const TuneResult& result, bool colours) {
  const bool speed = result.chosen().tokens_per_second.has_value();
  std::string text = fmt::format("\n  {:>11} {:>6} {:>12} {:>18} {:>7} {:>6}{}  {}\n", "bytes", "ratio", "KL selection",
                                 "KL held-out", "top-1 %", "kept", speed ? "     t/s" : "", "kv");
  for (std::size_t i = 0; i < result.finalists; ++i) {
    const bool chosen = i == result.decision.chosen;
    const std::string line = row(result.alternatives[i], result, chosen);
    text += chosen && colours ? fmt::format("\x1b[1m{}\x1b[0m\n", line) : line + '\n';
  }
  return text + fmt::format("  and {} more that were left behind on the selection's windows (see -o json)\n",
                            result.alternatives.size() - result.finalists);
}

}  // namespace

Json tune_json(const TuneQuestion& q, const TuneResult& result) {
  Json alternatives = Json::array(), layers = Json::array(), heads = Json::array(), folds = Json::object();
  for (const Alternative& a : result.alternatives) alternatives.push_back(alternative_json(a, result));
  for (const CostLine& line : layer_lines(result.sensitivity)) {
    Json json{{"axis", line.axis}, {"what", line.what}, {"kl", line.kl}, {"together", line.all}};
    if (line.axis == "layers") json["source"] = result.sensitivity.sharing.source;
    layers.push_back(std::move(json));
  }
  const std::vector<CostLine> lines = head_lines(result);
  for (const CostLine& line : lines) folds[line.axis] = line.what;
  for (std::size_t i = 0; i < result.heads.size(); ++i) {
    const HeadCosts& head = result.heads[i];
    Json json{{"layer", head.layer}, {"head", head.head}, {"policy", head.policy}, {"kept_fraction", head.kept}};
    for (const CostLine& line : lines) json["kl"][line.axis] = line.kl[i];
    heads.push_back(std::move(json));
  }
  const Decision& decision = result.decision;
  return {{"model", q.model},
          {"kv_spec", result.chosen().candidate.spec->text()},
          {"budget", budget_json(q, result)},
          {"calibration", calibration_json(q)},
          {"meets_floor", decision.meets_floor},
          {"reasons", decision.reasons},
          {"chosen", decision.chosen},
          {"selected", decision.selected},
          {"alternatives", std::move(alternatives)},
          {"layers", std::move(layers)},
          {"head_folds", std::move(folds)},
          {"heads", std::move(heads)}};
}

std::string policy_text(const TuneQuestion& q, const TuneResult& result) {
  Json root{{"schema", kPolicySchema}, {"model", model_of_file(q.architecture, q.shape)}};
  root["kv_spec"] = result.chosen().candidate.spec->text();
  root["budget"] = budget_json(q, result);
  root["calibration"] = calibration_json(q);
  root["reasons"] = result.decision.reasons;
  root["measured"] = alternative_json(result.chosen(), result);
  Json& others = root["alternatives"] = Json::array();
  for (std::size_t i = 0; i < result.finalists; ++i)
    if (i != result.decision.chosen) others.push_back(alternative_json(result.alternatives[i], result));
  return print_strategy(root);
}

std::string tune_text(const TuneQuestion& q, const TuneResult& result, bool colours) {
  const auto most = static_cast<double>(q.options.most_bytes), dense = static_cast<double>(result.dense_bytes);
  std::string text = fmt::format(
      "budget  {} after {} tokens, {:.1f} % of the dense cache's {}\n"
      "text    {}: {} windows to select on, {} held out; each a prompt of {} tokens, then {} fed one at a time\n",
      human_bytes(most), q.options.context, 100 * most / dense, human_bytes(dense), q.file, q.sizes.selection,
      q.sizes.held_out, q.sizes.prompt, q.sizes.scored);
  text += sensitivity_text(result, colours) + table_text(result, colours) + '\n';
  for (const std::string& reason : result.decision.reasons) text += reason + '\n';
  return text;
}

}  // namespace lamina
