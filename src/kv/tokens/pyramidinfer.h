// SPDX-License-Identifier: Apache-2.0
// PyramidInfer (arXiv:2405.12532): tokens of a prompt that its last queries look at least go no further up, so each
// layer computes and stores fewer rows than the one below. A layer keeps every row that it got; what goes is missing
// from the next layer on. The whole prompt is one step, so its working memory grows with the prompt, and only the
// logits after its last token exist. Tokens that are decoded later are kept in every layer: decode is not bounded (the
// authors' own program also thins out what it generates, 16 tokens at a time).
//   pyramidinfer(…)
//   keep=0.9      part of the rows it may drop that the highest layer lets on; the layers below more, along a cosine
//   recent=0.2    newest tokens of the prompt that are never dropped and whose queries choose, and one more: a number,
//                 or a fraction of the prompt, rounded down
//   distance=1.2  how much the last of these queries counts, the first counting 1 and the others evenly between
//   sinks=4       first tokens of the text that are never dropped
//   min=64        a layer that would leave so few rows or less beside the recent ones drops none
//   interval=1    only every so many layers drop
// Scores are summed over all heads of a layer. Where layers share rows (KVSharer), the one that wrote them chooses; its
// readers drop nothing and read what it has stored.
#pragma once
#include "kv/tokens/budget.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class PyramidInferPolicy final : public TokenPolicy {
 public:
  explicit PyramidInferPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  bool request_bound() const override { return true; }
  bool prunes() const override { return true; }
  Keep prune(int layer, int layers, Pos start, Pos length, const HeadRows& rows) const override;
  // At the prompt's end nothing is left to drop, but what was measured is forgotten.
  bool selects(const Step& step) const override { return step.phase == Phase::kPromptEnd; }
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos /*prompt_length*/) const override { return length; }  // the lowest layer's

 private:
  Pos first_recent(Pos start, Pos length) const;

  std::string text_;
  Budget recent_;
  double keep_ = 0, distance_ = 0;
  int sinks_ = 0, min_ = 0, interval_ = 0;
};

// The part of the rows before the recent ones that a layer lets on.
double pyramid_ratio(int layer, int layers, double keep);
// How many of `context` rows that is, if more than `min` are left; else all of them.
Pos pyramid_context(Pos context, double ratio, Pos min);

}  // namespace lamina
