// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/snapkv.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxWindow = 1'000'000;

}  // namespace

SnapKvPolicy::SnapKvPolicy(const Term& term) {
  const bool pyramid = term.name == "pyramidkv", adaptive = term.name == "adakv";
  share_ = pyramid ? Share::kPyramid : adaptive ? Share::kByScore : Share::kEven;
  if (pyramid)
    term.expect_keys({"keep", "window", "kernel", "pool", "beta", "every"});
  else if (adaptive)
    term.expect_keys({"keep", "window", "kernel", "pool", "floor", "every"});
  else
    term.expect_keys({"keep", "window", "kernel", "pool", "every"});
  const int usual_window = pyramid ? 8 : 32;
  window_ = term.integer("window", 1, kMaxWindow, usual_window);
  kernel_ = term.integer("kernel", 1, kMaxWindow, 7);
  require(kernel_ % 2 == 1, "kernel of {} is {}, expected an odd number", term.name, kernel_);
  keep_ = Budget(term, "keep", "512", 1);
  require(keep_.is_fraction() || keep_.rows(0) >= window_, "keep of {} is {}, expected at least the window of {} rows",
          term.name, keep_.text(), window_);
  const std::string_view pool = term.choice("pool", {"max", "avg"});
  max_pool_ = pool != "avg";
  beta_ = term.integer("beta", 2, kMaxWindow, 20);
  floor_ = term.number("floor", 0, 1, 0.2);
  every_ = Every(term);

  std::vector<std::string> arguments;
  if (keep_.text() != "512") arguments.push_back("keep=" + keep_.text());
  if (window_ != usual_window) arguments.push_back(fmt::format("window={}", window_));
  if (kernel_ != 7) arguments.push_back(fmt::format("kernel={}", kernel_));
  if (!max_pool_) arguments.emplace_back("pool=avg");
  if (beta_ != 20) arguments.push_back(fmt::format("beta={}", beta_));
  if (floor_ != 0.2) arguments.push_back(fmt::format("floor={}", floor_));
  every_.print_to(arguments);
  text_ = print_term(term.name, arguments);
}

Observe SnapKvPolicy::observes(const Ahead& ahead) const {
  Pos first = every_.first_query(ahead, window_);
  if (ahead.phase != Phase::kDecode) {
    // The prompt's end may come soon after a commit: then the queries before that score again, else only those after.
    const Pos end = ahead.next_commit(), chosen = end == ahead.prompt_end ? 0 : end - ahead.grid;
    first = std::max(chosen, end - window_);
  }
  return {.first_query = first, .by_query_head = true};
}

void SnapKvPolicy::select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const {
  std::vector<std::vector<double>> scored;
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const std::span<const Pos> pos = sets[set].pos;
    keep[set] = every_row(sets[set]);
    const auto candidates =
        static_cast<std::size_t>(std::ranges::lower_bound(pos, step.length - window_) - pos.begin());
    if (selects(step)) scored.push_back(scores(sets[set], candidates));
  }
  if (!selects(step)) return;
  const std::vector<std::size_t> budget = budgets(step, scored);
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const std::size_t newest = sets[set].pos.size() - scored[set].size();
    keep[set] = keep_highest(sets[set], budget[set] + newest, newest, [&](auto row) { return scored[set][row]; });
  }
}

std::vector<double> SnapKvPolicy::scores(const HeadRows& rows, std::size_t candidates) const {
  std::vector<double> mean(candidates);
  if (rows.mass.empty()) return mean;
  std::vector<double> head(candidates);
  for (int c = 0; c < rows.columns; ++c) {
    for (std::size_t row = 0; row < candidates; ++row) head[row] = rows.part(row, c, 0);
    const std::vector<double> smooth = pooled(head, kernel_, max_pool_);
    for (std::size_t row = 0; row < candidates; ++row) mean[row] += smooth[row] / rows.columns;
  }
  return mean;
}

std::vector<std::size_t> SnapKvPolicy::budgets(const Step& step, const std::vector<std::vector<double>>& scores) const {
  const auto even = static_cast<std::size_t>(std::max(0, keep_.rows(step.prompt()) - window_));
  std::vector<std::size_t> budget(scores.size(), even);
  if (share_ == Share::kPyramid) {
    const Pos length = step.prompt();  // in decode too: budgets are those of the prompt's end
    const Pos rows = step.window > 0 ? std::min(length, step.window - 1) : length;  // if none had gone
    const auto before = static_cast<std::size_t>(std::max(0, rows - window_));
    std::ranges::fill(budget, pyramid_budget(even, before, window_, beta_, step.slot, step.slots));
  }
  if (share_ != Share::kByScore) return budget;
  // the floor of each head first, then the best of what is left in all heads: ties go to the lower head and position
  struct Candidate {
    double score;
    std::size_t set;
  };
  std::vector<Candidate> rest;
  std::size_t all = 0, floors = 0;
  for (std::size_t set = 0; set < scores.size(); ++set) {
    std::vector<double> best = scores[set];
    std::sort(best.begin(), best.end(), std::greater());
    budget[set] = std::min(best.size(), static_cast<std::size_t>(floor_ * static_cast<double>(even)));
    all += best.size();
    floors += budget[set];
    for (std::size_t row = budget[set]; row < best.size(); ++row) rest.push_back({best[row], set});
  }
  const std::size_t left = std::min(all, even * scores.size()) - floors;
  std::stable_sort(rest.begin(), rest.end(), [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  for (std::size_t i = 0; i < left; ++i) ++budget[rest[i].set];
  return budget;
}

Pos SnapKvPolicy::most_rows(Pos length, Pos prompt_length) const {
  const Pos kept = std::max(keep_.rows(prompt_length), window_);
  const Pos most = share_ == Share::kByScore   ? (every_ ? length : prompt_length)  // all that other heads do not get
                   : share_ == Share::kPyramid ? 2 * kept
                                               : kept;
  return every_.most_rows(most, length, prompt_length);
}

std::size_t pyramid_budget(std::size_t even, std::size_t rows, int window, int beta, int layer, int layers) {
  if (rows <= even) return rows;
  const auto budget = static_cast<long>(even), all = static_cast<long>(rows);
  if (all + window < 2 * budget || layers < 2) return even;
  long least = budget / beta, most = 2 * budget - least;
  if (most >= all) {
    most = all;
    least = 2 * budget - most;
  }
  return static_cast<std::size_t>(most - layer * ((most - least) / (layers - 1)));
}

std::vector<double> pooled(std::span<const double> scores, int kernel, bool max) {
  const auto n = std::ssize(scores);
  std::vector<double> result(scores.size());
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const std::ptrdiff_t first = std::max<std::ptrdiff_t>(0, i - kernel / 2), last = std::min(n, i + kernel / 2 + 1);
    double best = scores[static_cast<std::size_t>(first)], sum = 0;
    for (std::ptrdiff_t j = first; j < last; ++j) {
      best = std::max(best, scores[static_cast<std::size_t>(j)]);
      sum += scores[static_cast<std::size_t>(j)];
    }
    result[static_cast<std::size_t>(i)] = max ? best : sum / kernel;
  }
  return result;
}

}  // namespace lamina
