// SPDX-License-Identifier: Apache-2.0
// Checks of the cache under a spec.
#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/error.h"
#include "base/stopwatch.h"
#include "engine/doctor.h"
#include "engine/step_bytes.h"
#include "engine/tune_specs.h"

namespace lamina {
namespace {

std::size_t prompt_of(std::size_t tokens) { return std::max<std::size_t>(1, tokens * 3 / 4); }

// Whether which rows are kept follows from the text: a plan can then but come near.
bool keeps_by_text(const KvSpec& spec) {
  return spec.observes() || !spec.minicache.pairs.empty() || std::ranges::any_of(spec.slots, [](const SlotSpec& slot) {
           return slot.tokens && (slot.tokens->reads_keys(Phase::kPromptEnd) ||
                                  slot.tokens->reads_rows(Phase::kPromptEnd) || slot.tokens->reads_classes());
         });
}

// Of each set of keys, and of values, a tile or two may be filled in another way, and is listed.
double planned_slack(const KvSpec& spec, const KvShape& shape) {
  constexpr std::size_t kListed = 16;
  if (!keeps_by_text(spec)) return 0;
  const auto sets =
      std::size_t{4} * static_cast<std::size_t>(spec.layers.slots()) * static_cast<std::size_t>(shape.kv_heads);
  return static_cast<double>(sets * (code_tile_bytes(spec.widest(), shape.head_dim) + kListed));
}

// Specs after the same tokens. The last one is computed on one thread.
struct Sessions {
  Sessions(const Patient& patient, std::size_t tokens)
      : full(std::make_shared<const KvSpec>(KvSpec::parse("full", patient.model.shape()))),
        context(static_cast<Pos>(tokens)),
        dense(patient.model, patient.pool, {.spec = full, .context = context, .batch = patient.batch}),
        ours(patient.model, patient.pool, {.spec = patient.spec, .context = context, .batch = patient.batch}),
        again(patient.model, one,
              {.spec = patient.spec, .context = context, .batch = patient.spec->layers.cyclic() ? patient.batch : 61}) {
  }

  ThreadPool one{1};
  std::shared_ptr<const KvSpec> full;
  Pos context;
  Session dense, ours, again;
};

// A model refuses rows that are not finite: of a broken cache that is a finding.
void decode_side_by_side(Sessions& sessions, std::span<const Token> tokens, Trial& trial) {
  std::vector<double> seconds;
  try {
    for (std::size_t i = static_cast<std::size_t>(trial.prompt); i < tokens.size(); ++i) {
      const auto base = sessions.dense.decode(tokens[i]), same = sessions.again.decode(tokens[i]);
      const Stopwatch watch;
      const auto logits = sessions.ours.decode(tokens[i]);
      seconds.push_back(watch.seconds());
      trial.different_logits += std::ranges::equal(logits, same) ? 0 : 1;
      trial.scores.push_back(compare_token(base, logits, i + 1 < tokens.size() ? tokens[i + 1] : tokens[i]));
    }
  } catch (const Error& error) {
    trial.failure = error.what();
  }
  if (!seconds.empty()) trial.step_seconds = quantile(std::move(seconds), 0.5);
}

Finding failed(std::string check, const Trial& trial) {
  Finding finding =
      judged(std::move(check), {{.name = "tokens_not_decoded",
                                 .value = static_cast<double>(trial.decoded) - static_cast<double>(trial.scores.size()),
                                 .yellow = 0,
                                 .red = 0}});
  finding.reason =
      fmt::format("decoding failed after {} of {} tokens: {}", trial.scores.size(), trial.decoded, trial.failure);
  return finding;
}

std::string positions_text(const std::array<Third, 3>& parts) {
  return fmt::format("{:.4f} early, {:.4f} in the middle, {:.4f} late", parts[0].kl_mean, parts[1].kl_mean,
                     parts[2].kl_mean);
}

}  // namespace

Trial run_trial(const Patient& patient, std::span<const Token> tokens,
                const std::function<void(Session&)>& after_prompt) {
  assert(tokens.size() >= 2);
  const std::size_t prompt = prompt_of(tokens.size());
  Sessions sessions(patient, tokens.size());
  for (Session* const session : {&sessions.dense, &sessions.ours, &sessions.again})
    session->prompt(tokens.first(prompt));
  after_prompt(sessions.ours);
  Trial trial{.states = compare_states(sessions.ours.kv(), sessions.again.kv()),
              .prompt = static_cast<Pos>(prompt),
              .decoded = static_cast<Pos>(tokens.size() - prompt)};
  if (patient.spec->same_prompt(*sessions.full) && patient.spec->minicache.pairs.empty())
    trial.dense_rows = compare_with_dense(sessions.ours.kv(), sessions.dense.kv());
  decode_side_by_side(sessions, tokens, trial);
  trial.bytes = sessions.ours.kv().bytes();
  trial.peak_bytes = sessions.ours.peak_bytes();
  trial.kept_fraction = sessions.ours.kv().kept_fraction();
  trial.step_bytes = bytes_read(sessions.ours.kv()) + bytes_read(patient.model.weights(), patient.spec->layers);
  return trial;
}

Finding check_drift(const Trial& trial) {
  if (!trial.failure.empty()) return failed("drift", trial);
  const auto parts = thirds(trial.scores, trial.scores.size());
  const Third all = thirds(trial.scores, 1).front();  // of windows of one token
  const double grown = std::max(0.0, parts[2].kl_mean - 3 * parts[0].kl_mean);
  Finding finding = judged(
      "drift",
      {{.name = "kl_mean", .value = all.kl_mean, .yellow = 0.1, .red = 1},
       {.name = "top1_agreement", .value = all.top1_agreement, .yellow = 0.9, .red = 0.5, .should_be_large = true},
       {.name = "kl_early", .value = parts[0].kl_mean},
       {.name = "kl_middle", .value = parts[1].kl_mean},
       {.name = "kl_late", .value = parts[2].kl_mean},
       {.name = "kl_late_beyond_3_times_early", .value = grown, .yellow = 0.05, .red = 1}});
  const bool grows =
      finding.figures.front().health() != Health::kRed && finding.figures.back().health() != Health::kGreen;
  const char* const how = grows                               ? "it grows along the text"
                          : finding.health == Health::kGreen  ? "near the dense cache"
                          : finding.health == Health::kYellow ? "noticeably off the dense cache"
                                                              : "these are not the model's answers any more";
  finding.reason =
      fmt::format("{} tokens after a prompt of {}: KL to the dense cache {}, {:.0f} % the same top token: {}",
                  trial.decoded, trial.prompt, positions_text(parts), 100 * all.top1_agreement, how);
  return finding;
}

Finding check_cache(const Trial& trial) {
  if (!trial.failure.empty() && trial.states.different == 0) return failed("cache", trial);
  const auto count = [](std::size_t n) { return static_cast<double>(n); };
  std::vector<Figure> figures{
      {.name = "rows", .value = count(trial.states.rows)},
      {.name = "different_rows", .value = count(trial.states.different), .yellow = 0, .red = 0},
      {.name = "different_logits", .value = count(trial.different_logits), .yellow = 0, .red = 0}};
  if (trial.dense_rows)
    figures.push_back({.name = "error_over_rounding", .value = trial.dense_rows->largest_error, .yellow = 1, .red = 1});
  Finding finding = judged("cache", std::move(figures));
  if (trial.states.different > 0)
    finding.reason = fmt::format("{} of {} rows are not those of a second computation; {}", trial.states.different,
                                 trial.states.rows, trial.states.first);
  else if (trial.dense_rows && trial.dense_rows->different > 0)
    finding.reason = fmt::format("{} of {} rows are too far from the dense cache's; {}", trial.dense_rows->different,
                                 trial.dense_rows->rows, trial.dense_rows->first);
  else if (trial.different_logits > 0)
    finding.reason = fmt::format("{} of {} decoded tokens have other logits than in a second computation",
                                 trial.different_logits, trial.decoded);
  else
    finding.reason = fmt::format(
        "a second computation, by one thread in other steps, has the same {} rows and logits{}", trial.states.rows,
        trial.dense_rows ? ", and rows are as near the dense ones as their "
                           "format allows"
                         : "");
  return finding;
}

Finding check_bytes(const Patient& patient, const Trial& trial) {
  const KvShape shape = patient.model.shape();
  const KvPlan plan = plan_kv(patient.spec, shape, trial.prompt, trial.decoded, patient.batch);
  const auto planned = static_cast<double>(plan.steady.total()), held = static_cast<double>(trial.bytes.total());
  const double slack = planned_slack(*patient.spec, shape), off = std::fabs(held - planned);
  const double red = slack > 0 ? slack + planned / 2 : 0;
  const double peak_off = std::fabs(static_cast<double>(trial.peak_bytes) - static_cast<double>(plan.peak_bytes));
  Figure kept{.name = "kept_fraction", .value = trial.kept_fraction};
  if (axes_of(*patient.spec, shape).tokens) kept.yellow = 0.999999;
  Finding finding = judged("bytes", {kept,
                                     {.name = "held_bytes", .value = held},
                                     {.name = "planned_bytes", .value = planned},
                                     {.name = "bytes_off_plan", .value = off, .yellow = slack, .red = red},
                                     {.name = "peak_bytes", .value = static_cast<double>(trial.peak_bytes)},
                                     {.name = "peak_bytes_off_plan", .value = peak_off, .yellow = slack, .red = red}});
  finding.reason =
      finding.health == Health::kRed
          ? fmt::format("the cache holds {:.0f} bytes, planned are {:.0f}; at its peak {}, planned {}", held, planned,
                        trial.peak_bytes, plan.peak_bytes)
      : off > slack || peak_off > slack
          ? fmt::format("the cache holds {:.0f} bytes, {:.0f} % of the plan: which rows stay follows from the text",
                        held, 100 * held / planned)
          : fmt::format("the cache holds {:.0f} bytes{}", held,
                        off > 0 ? ", as planned but for tiles that the text fills in another way" : ", as planned");
  if (kept.health() != Health::kGreen)
    finding.reason += fmt::format("; no row was dropped in {} tokens: what that would cost is not seen here",
                                  trial.prompt + trial.decoded);
  return finding;
}

Finding check_speed(const Trial& trial, const MachineLimits& limits) {
  constexpr double kShort = 0.0005;  // a step of less is waiting for threads, not for memory
  const double bound_seconds = static_cast<double>(trial.step_bytes) / limits.read_bytes;
  const bool is_measured = trial.step_seconds > 0;
  const double share = is_measured ? bound_seconds / trial.step_seconds : 0;
  const bool is_short = bound_seconds < kShort;
  Figure of_bound{.name = "share_of_bound", .value = share, .yellow = 0.2, .red = 0.03, .should_be_large = true};
  if (is_short) of_bound.yellow = of_bound.red = std::nullopt;
  Finding finding = judged("speed", {{.name = "step_ms", .value = 1000 * trial.step_seconds},
                                     {.name = "step_bytes", .value = static_cast<double>(trial.step_bytes)},
                                     {.name = "read_bytes_per_s", .value = limits.read_bytes},
                                     of_bound});
  const std::string what = fmt::format(
      "a step of decoding takes {:.2f} ms to read {:.1f} MB, {:.0f} % of what memory's {:.1f} GB/s allow",
      1000 * trial.step_seconds, static_cast<double>(trial.step_bytes) / 1e6, 100 * share, limits.read_bytes / 1e9);
  finding.reason = !is_measured ? "no step of decoding was measured"
                   : is_short   ? what + ": too short a step to be judged"
                   : finding.health == Health::kGreen
                       ? what
                       : what + ": something else runs on this machine, or the threads are too many or too few";
  return finding;
}

}  // namespace lamina
