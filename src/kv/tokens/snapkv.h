// SPDX-License-Identifier: Apache-2.0
// SnapKV (arXiv:2404.14469): what the last queries of a prompt look at, smoothed over neighbours, is kept, and the rows
// of those queries. Chosen at the prompt's end; under grid(N) at its commits too, by the last queries before each,
// where a fraction is one of the text so far: nothing may depend on what is still to come.
//   snapkv(…)
//   keep=512      rows kept of the prompt, the window included; or a fraction of it. A shorter prompt is kept whole
//   window=32     last queries of the prompt; their rows are always kept
//   kernel=7      neighbours, of the rows held, that a score is pooled over, odd
//   pool=max|avg  (avg: zeros beyond the ends, always divided by the kernel)
//   every=N       chosen again in decode by the last of its queries, see every.h; else what is decoded is kept
// A KV head keeps rows of its own: each query head's scores are pooled, then averaged over the heads that read it.
//
//   adakv(…)      (arXiv:2407.11550) the same scores, the budget of a layer shared between its heads by them
//   floor=0.2     part of an even share that each head has in any case
//
//   pyramidkv(…)  (arXiv:2406.02069) the same scores, a budget that falls from the lowest to the highest layer;
//                 keep= is the average of layers, window=8 by default
//   beta=20       how steep: the last layer's budget beside the window is a beta-th of the average's
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/every.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class SnapKvPolicy : public TokenPolicy {
 public:
  explicit SnapKvPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  bool by_head() const override { return true; }
  bool by_prompt() const override { return !every_; }
  bool request_bound() const override { return true; }
  bool selects(const Step& step) const override { return every_.is_due(step); }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos prompt_length) const override;

 private:
  // How many rows of each of `sets` are kept beside the window; `scores`: [set][row] of those before it.
  std::vector<std::size_t> budgets(const Step& step, const std::vector<std::vector<double>>& scores) const;
  std::vector<double> scores(const HeadRows& rows, std::size_t candidates) const;

  enum class Share { kEven, kByScore, kPyramid };
  Share share_ = Share::kEven;
  std::string text_;
  Budget keep_;
  Every every_;
  int window_ = 0, kernel_ = 0, beta_ = 0;
  double floor_ = 0;
  bool max_pool_ = true;
};

// What PyramidKV keeps of layer `layer` beside the window: `even` rows on average over `layers`, of `rows` that there
// are. A text of fewer than 2 `even` tokens, the window included, gets flat budgets.
std::size_t pyramid_budget(std::size_t even, std::size_t rows, int window, int beta, int layer, int layers);
// Each score becomes the largest, or the mean, of the `kernel` scores around it.
std::vector<double> pooled(std::span<const double> scores, int kernel, bool max);

}  // namespace lamina
