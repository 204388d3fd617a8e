// SPDX-License-Identifier: Apache-2.0
// What each spec costs on a text: perplexity, bytes, speed.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/stopwatch.h"
#include "engine/axis_bytes.h"
#include "engine/score.h"
#include "engine/statistics.h"
#include "engine/step_bytes.h"
#include "engine/suite_parts.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

Json interval(const Interval& x) { return {x.low, x.high}; }

Session::OnProgress going_on(const Subject& subject) {
  return [&subject](std::size_t) {
    subject.on_step();
    return true;
  };
}

// Of a score that was compared.
Json values_of(const Score& score, std::size_t windows) {
  const Summary summary = summarize(score.tokens, true);
  const Summary::Comparison& base = *summary.base;
  Json kl_parts = Json::array(), top1_parts = Json::array();
  for (const Third& part : thirds(score.tokens, score.tokens.size() / windows)) {
    kl_parts.push_back(part.kl_mean);
    top1_parts.push_back(part.top1_agreement);
  }
  return {{"tokens", score.tokens.size()},
          {"perplexity", summary.perplexity},
          {"perplexity_95", interval(summary.interval)},
          {"perplexity_ratio", summary.perplexity / base.base_perplexity},
          {"perplexity_ratio_95", interval(base.ratio)},
          {"kl_mean", base.kl_mean},
          {"kl_mean_95", interval(base.kl)},
          {"kl_median", base.kl_median},
          {"kl_p99", base.kl_p99},
          {"kl_by_position", std::move(kl_parts)},
          {"top1_agreement", base.top1_agreement},
          {"top1_agreement_95", interval(base.top1)},
          {"top1_by_position", std::move(top1_parts)},
          {"kept_fraction", score.kept_fraction},
          {"kv_length", score.kv_length},
          {"kv_bytes", score.kv_bytes}};
}

Tokens joined(const std::vector<Tokens>& parts) {
  Tokens all;
  for (const Tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Outcome cache_of(Session& session, const LayerMap& map) {
  const KvBytes bytes = session.kv().bytes();
  const AxisBytes axes = bytes_by_axis(session.kv());
  Json rows = Json::array();
  for (int slot = 0; slot < map.slots(); ++slot) rows.push_back(session.kv().live_rows(SlotId{slot}));
  return {.values = {{"tokens", session.kv().length()},
                     {"kv_bytes", bytes.total()},
                     {"rows", bytes.rows},
                     {"scales", bytes.scales},
                     {"gains", bytes.gains},
                     {"positions", bytes.positions},
                     {"mass", bytes.mass},
                     {"slack", bytes.slack},
                     {"dense_bytes", axes.dense},
                     {"saved_by_layers", axes.layers},
                     {"saved_by_tokens", axes.tokens},
                     {"saved_by_bits", axes.bits},
                     {"overhead", axes.overhead},
                     {"kept_fraction", session.kv().kept_fraction()},
                     {"kept_rows", std::move(rows)}}};
}

// After a few tokens to warm up. The median: a shared machine has slow moments.
Outcome speed_of(Session& session, std::span<const Token> next, Pos depth, const Subject& subject) {
  constexpr std::size_t kWarmUp = 3;
  std::vector<double> seconds;
  for (std::size_t i = 0; i < next.size(); ++i) {
    const Stopwatch watch;
    session.decode(next[i]);
    if (i >= kWarmUp) seconds.push_back(watch.seconds());
    subject.on_step();
  }
  const double median = quantile(std::move(seconds), 0.5);
  return {.values = {{"depth", depth},
                     {"kv_bytes", session.kv().bytes().total()},
                     {"kv_bytes_read", bytes_read(session.kv())}},
          .timing = {{"tokens_per_second", 1 / median}}};
}

// Calls outcome(session, spec) for each spec after the prompt, which specs share where they can.
template <class Fn>
std::vector<Outcome> after_prompt(const Subject& subject, Specs specs, std::span<const Token> prompt, Pos context,
                                  Fn outcome) {
  std::vector<Outcome> all(specs.size());
  for (const auto& group : shared_prompts(specs, subject.model.shape(), context)) {
    Prompted prompted =
        prompt_all(subject.model, subject.pool, specs, group, context, subject.batch, prompt, going_on(subject));
    for (std::size_t member = 0; member < group.size(); ++member)
      all[group[member]] = outcome(prompted.sessions[member], *specs[group[member]]);
  }
  return all;
}

}  // namespace

Measurement perplexity_measurement(const std::vector<Tokens>& windows, int prompt) {
  const std::size_t size = windows.front().size(), first = static_cast<std::size_t>(prompt);
  const auto count = static_cast<double>(windows.size());
  const Windows text(joined(windows), size, windows.size(), std::nullopt);
  const auto run = [text, first](const Subject& subject, Specs specs) {
    const Scorer scorer(subject.model, subject.pool, subject.batch, [&](std::size_t) { subject.on_step(); });
    const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", subject.model.shape()));
    std::vector<Outcome> outcomes;
    for (const Score& score : scorer.score_continuations(specs, full, text, first))
      outcomes.push_back({.values = values_of(score, text.count())});
    return outcomes;
  };
  return {.name = "perplexity",
          .prompt_tokens = count * prompt,
          .decoded_tokens = count * static_cast<double>(size - first),
          .run = run};
}

Measurement cache_measurement(Tokens prompt) {
  const auto tokens = static_cast<double>(prompt.size());
  const auto run = [prompt = std::move(prompt)](const Subject& subject, Specs specs) {
    return after_prompt(subject, specs, prompt, static_cast<Pos>(prompt.size()),
                        [](Session& session, const KvSpec& spec) { return cache_of(session, spec.layers); });
  };
  return {.name = "cache", .prompt_tokens = tokens, .run = run};
}

Measurement speed_measurement(Tokens text, Pos depth) {
  const auto tokens = static_cast<double>(text.size());
  const auto run = [text = std::move(text), depth](const Subject& subject, Specs specs) {
    const auto prompt = std::span(text).first(static_cast<std::size_t>(depth));
    const auto next = std::span(text).subspan(prompt.size());
    return after_prompt(subject, specs, prompt, static_cast<Pos>(text.size()),
                        [&](Session& session, const KvSpec&) { return speed_of(session, next, depth, subject); });
  };
  return {.name = fmt::format("speed.{}", depth),
          .prompt_tokens = static_cast<double>(depth),
          .decoded_tokens = tokens - depth,
          .run = run};
}

}  // namespace lamina
