// SPDX-License-Identifier: Apache-2.0
#include "engine/tune.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "engine/score.h"
#include "engine/suite_parts.h"
#include "engine/tune_allocation.h"
#include "engine/tune_survey.h"

namespace lamina {
namespace {

constexpr std::array kShares = {0.75, 0.5, 0.25, 0.1};                          // of a prompt's rows, measured
constexpr std::array kRecoveries = {0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4};  // of FastGen
constexpr std::size_t kProbeWindows = 2;  // of the selection, for questions that are told in one step
constexpr int kSpeedRounds = 3, kFillRounds = 3;
constexpr double kFilled = 0.95, kAim = 0.99;  // shares of the budget

std::vector<std::shared_ptr<const KvSpec>> specs_of(const std::vector<Alternative>& all) {
  std::vector<std::shared_ptr<const KvSpec>> specs;
  specs.reserve(all.size());
  for (const Alternative& one : all) specs.push_back(one.candidate.spec);
  return specs;
}

class Tuner {
 public:
  Tuner(const Subject& subject, const TuneText& text, const TuneOptions& options, const OnTune& on_tune)
      : subject_(subject), text_(text), options_(options), on_tune_(on_tune), shape_(subject.model.shape()) {
    const auto prompt = static_cast<Pos>(text.prompt),
               scored = static_cast<Pos>(text.selection.front().size()) - prompt;
    budget_ = {.shape = shape_, .prompt = options.context - scored, .decoded = scored, .most = options.most_bytes};
    measured_ = {.shape = shape_, .prompt = prompt, .decoded = scored, .most = SIZE_MAX};
    probed_ = {.windows = std::span(text.selection).first(std::min(kProbeWindows, text.selection.size())),
               .prompt = text.prompt};
    subject_.on_step = [this] { advance(kProbeWork); };
  }

  TuneResult run() {
    result_.dense_bytes = budget_.dense();
    require_possible();
    plan_work();
    stage_ = "each axis";
    good_ = promising(survey_axes(subject_, probed_, budget_, kShares), budget_.most);
    if (shape_.targets.empty()) {
      stage_ = "each layer";
      result_.sensitivity = ask_layers(subject_, probed_, good_.bits_by_layer, good_.methods_by_layer, kShares);
      stage_ = "each head";
      look_at_heads();
    }
    collect();
    narrow();
    verify();
    return std::move(result_);
  }

 private:
  // Units of work: a spec on a window, token by token. What is told in one step takes less.
  static constexpr double kProbeWork = 0.35;
  static constexpr std::size_t kSecond = 20, kThird = 9, kFinalists = 5;  // alternatives after one window, two, all

  void plan_work() {
    const double candidates = 80, axes = 2, layers = shape_.layers,
                 windows = static_cast<double>(text_.selection.size());
    const double probes = static_cast<double>(row_bits().size() + token_methods(shape_).size() * kShares.size());
    const double by_layer = shape_.targets.empty() ? (10 + 2 * kShares.size()) * layers : 0;
    // of bits and of tokens on each window, of sharing once; FastGen's need on all windows
    const double by_head = shape_.targets.empty() ? 5 * layers * shape_.kv_heads + windows : 0;
    work_ = kProbeWork * (static_cast<double>(probed_.windows.size()) * (probes + by_layer) + by_head) + candidates +
            (kSecond + axes) + (kThird + axes) * (windows - 2) +
            (kFinalists + axes) * static_cast<double>(text_.held_out.size()) + (options_.speed ? 20 : 0);
  }

  void advance(double work) {
    done_ += work;
    on_tune_(stage_, std::min(1.0, done_ / work_));
  }

  // Before minutes of work. The smallest format alone or with any method.
  void require_possible() {
    add(single_axis_candidates(budget_));
    const std::vector<RowBits> smallest = {{.format = "k2v2"}};
    require(!pool_.empty() || !combined_candidates(token_methods(shape_), smallest, {}, budget_).empty(),
            "no spec fits {} bytes after {} tokens, of which the dense cache takes {}", budget_.most, options_.context,
            result_.dense_bytes);
  }

  void look_at_heads() {
    HeadFolds& folds = result_.head_folds;
    folds.bits = good_.bits_by_head;
    if (!good_.methods_by_layer.empty()) folds.method = good_.methods_by_layer.front();
    const double budget = static_cast<double>(budget_.most) / static_cast<double>(result_.dense_bytes);
    folds.keep = *std::ranges::min_element(kShares, {}, [&](double share) { return std::abs(share - budget); });
    folds.source = result_.sensitivity.sharing.source;
    result_.heads = ask_heads(subject_, probed_, folds);
    ask_needs(subject_, {.windows = text_.selection, .prompt = text_.prompt}, result_.heads);
  }

  void add(std::vector<Candidate> candidates) {
    for (Candidate& candidate : candidates)
      if (texts_.insert(candidate.spec->text()).second) pool_.push_back({.candidate = std::move(candidate)});
  }

  void add(std::optional<Candidate> candidate) {
    if (candidate) add(std::vector{std::move(*candidate)});
  }

  std::vector<int> shared_map(int shared) const { return share_cheapest(result_.sensitivity.sharing, shared); }
  std::string map_term(int shared) const { return fmt::format("map({})", print_layer_types(shared_map(shared))); }

  // Everything that fits and is worth a look, measured on one window.
  void collect() {
    for (const double recovery : kRecoveries)  // whose bytes depend on the text
      if (auto spec = spec_if_possible(fmt::format("fastgen(recovery={})", share_text(recovery)), shape_))
        add(std::vector<Candidate>{{.spec = spec, .axes = axes_of(*spec, shape_), .bytes = budget_.bytes(spec)}});
    std::vector<std::string> layer_terms = {"minicache(start=0.75,of=v)"};
    if (shape_.targets.empty()) {
      for (const int shared : {1, 2}) layer_terms.push_back(map_term(shared));
      std::optional<Candidate> alone;
      for (int shared = 1; shared < shape_.layers && !alone; ++shared)
        alone = candidate_if_fits(map_term(shared), budget_);
      add(std::move(alone));
      allocate_layers();
    }
    add(combined_candidates(good_.methods, good_.bits, {}, budget_));
    const std::size_t few = std::min<std::size_t>(3, good_.bits.size());
    add(combined_candidates(std::span(good_.methods).first(std::min<std::size_t>(1, good_.methods.size())),
                            std::span(good_.bits).last(few), layer_terms, budget_));
    std::ranges::stable_sort(pool_, {}, [](const Alternative& a) { return a.candidate.spec->text(); });
    require_any();
    stage_ = "candidates";
    measure(pool_, &Alternative::selection, text_.selection, 1);
  }

  // Each rotation alone and with each method, and each method alone; with a layer that reads another, and without.
  void allocate_layers() {
    const Sensitivity& costs = result_.sensitivity;
    std::vector<LayerFolds> methods(1);
    for (const TokenMethod& method : good_.methods_by_layer) {
      methods.emplace_back();
      for (const RowsCosts& of : costs.rows)
        if (of.method.name == method.name) methods.back().rows.push_back(of);
    }
    for (LayerFolds& folds : methods)
      for (const int shared : {0, 1}) {
        folds.target = shared > 0 ? shared_map(shared) : std::vector<int>();
        folds.bits.clear();
        if (!folds.rows.empty()) add(allocated_candidate(folds, budget_));
        for (const bool rotate : {false, true}) {
          folds.bits.clear();
          for (const BitsCosts& of : costs.bits)
            if (of.bits.rotate == rotate) folds.bits.push_back(of);
          if (!folds.bits.empty()) add(allocated_candidate(folds, budget_));
        }
      }
  }

  // All on the windows up to `count` that they were not yet measured on.
  void measure(std::vector<Alternative>& all, Figures Alternative::*part,
               const std::vector<std::vector<Token>>& windows, std::size_t count) {
    if (all.empty()) return;
    const std::vector<std::shared_ptr<const KvSpec>> specs = specs_of(all);
    const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", shape_));
    const auto size = windows.front().size();
    const Scorer scorer(subject_.model, subject_.pool, subject_.batch,
                        [&](std::size_t tokens) { advance(static_cast<double>(tokens) / static_cast<double>(size)); });
    for (std::size_t w = (all.front().*part).kl.size(); w < count; ++w) {
      const std::vector<Score> scores =
          scorer.score_continuations(specs, full, Windows(windows[w], size, 1, std::nullopt), text_.prompt);
      for (std::size_t i = 0; i < specs.size(); ++i) (all[i].*part).add(scores[i]);
    }
  }

  // Fewer alternatives on more windows; the best two of each axis alone stay in to the end.
  void narrow() {
    fill_budget();
    drop_too_large();
    keep_lowest(pool_, kSecond, 3, options_.floor, left_);
    measure(pool_, &Alternative::selection, text_.selection, 2);
    drop_too_large();
    keep_lowest(pool_, kThird, 2, options_.floor, left_);
    measure(pool_, &Alternative::selection, text_.selection, text_.selection.size());
    drop_too_large();
    keep_lowest(pool_, kFinalists, 2, options_.floor, left_);
  }

  // Which rows a method keeps decides how many of them windows leave behind, and which tiles they fill: bytes are those
  // planned, in the proportion that was measured.
  void count_bytes(std::vector<Alternative>& all) const {
    for (Alternative& one : all) {
      const auto planned = static_cast<double>(measured_.bytes(one.candidate.spec));
      const auto at_length = static_cast<double>(budget_.bytes(one.candidate.spec));
      one.candidate.bytes = static_cast<std::size_t>(std::llround(at_length * mean(one.selection.bytes) / planned));
    }
  }

  // Those that came out larger than the budget, or well below it, once more with what makes up for that.
  void fill_budget() {
    std::vector<Alternative> latest = pool_;
    for (int round = 0; round < kFillRounds && !latest.empty(); ++round) {
      count_bytes(latest);
      std::vector<Alternative> fresh;
      for (const Alternative& one : latest) {
        const double share = static_cast<double>(one.candidate.bytes) / static_cast<double>(budget_.most);
        if (!one.candidate.remade || (kFilled <= share && share <= 1)) continue;
        ByteBudget another = budget_;
        another.most = static_cast<std::size_t>(kAim * static_cast<double>(budget_.bytes(one.candidate.spec)) / share);
        auto again = one.candidate.remade(another);
        if (again && texts_.insert(again->spec->text()).second) fresh.push_back({.candidate = std::move(*again)});
      }
      measure(fresh, &Alternative::selection, text_.selection, 1);
      std::ranges::copy(fresh, std::back_inserter(pool_));
      latest = std::move(fresh);
    }
  }

  void drop_too_large() {
    count_bytes(pool_);
    std::erase_if(pool_, [&](const Alternative& one) { return one.candidate.bytes > budget_.most; });
    require_any();
  }

  void require_any() const {
    require(!pool_.empty(), "no spec fits {} bytes after {} tokens", budget_.most, options_.context);
  }

  void verify() {
    stage_ = "held-out text";
    measure(pool_, &Alternative::held_out, text_.held_out, text_.held_out.size());
    stage_ = "speed";
    if (options_.speed) measure_speed();
    std::ranges::stable_sort(pool_, {}, [](const Alternative& a) { return mean(a.all_kl()); });
    std::ranges::stable_sort(left_, [](const Alternative& a, const Alternative& b) {
      const std::size_t n = a.selection.kl.size(), m = b.selection.kl.size();
      return n != m ? n > m : mean(a.selection.kl) < mean(b.selection.kl);
    });
    result_.finalists = pool_.size();
    result_.decision = decide(pool_, options_.floor, options_.speed);
    std::ranges::move(left_, std::back_inserter(pool_));
    result_.alternatives = std::move(pool_);
  }

  // Medians of rounds that take turns.
  void measure_speed() {
    const Measurement speed = speed_measurement(text_.held_out.front(), static_cast<Pos>(text_.prompt));
    std::vector<std::vector<double>> found(pool_.size());
    Subject subject = subject_;
    subject.on_step = [this] { advance(0); };
    for (int round = 0; round < kSpeedRounds; ++round) {
      const std::vector<Outcome> outcomes = speed.run(subject, specs_of(pool_));
      for (std::size_t i = 0; i < found.size(); ++i)
        found[i].push_back(outcomes[i].timing.at("tokens_per_second").get<double>());
      advance(20.0 / kSpeedRounds);
    }
    for (std::size_t i = 0; i < found.size(); ++i) pool_[i].tokens_per_second = quantile(std::move(found[i]), 0.5);
  }

  Subject subject_;
  const TuneText& text_;
  const TuneOptions& options_;
  const OnTune& on_tune_;
  KvShape shape_;
  ByteBudget budget_, measured_;  // at the budget's length and at the windows'
  PromptedWindows probed_;
  Promising good_;
  std::set<std::string> texts_;           // of the pool
  std::vector<Alternative> pool_, left_;  // still in; not
  std::string_view stage_;
  double work_ = 0, done_ = 0;
  TuneResult result_;
};

}  // namespace

TuneResult tune(const Subject& subject, const TuneText& text, const TuneOptions& options, const OnTune& on_tune) {
  return Tuner(subject, text, options, on_tune).run();
}

}  // namespace lamina
