// SPDX-License-Identifier: Apache-2.0
// What rows of logits say of the tokens that followed: negative log-likelihood, KL divergence to a base, agreement.
// Exponentials are float32, sums are double in one fixed order.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "model/forward.h"

namespace lamina {

// One scored token. The last three compare with a base's logits for the same token, where there is a base.
struct TokenScore {
  double nll = 0;  // -ln of the probability that the token had
  double base_nll = 0;
  double kl = 0;          // KL(base || ours) in nats over the whole vocabulary
  bool same_top = false;  // both find the same token most likely
};

// logits, base: [vocab], of the position before the token. Not finite where the logits are not.
TokenScore score_token(std::span<const float> logits, Token token);
TokenScore compare_token(std::span<const float> base, std::span<const float> logits, Token token);

struct Summary {
  struct Comparison {
    double base_perplexity, kl_mean, kl_median, kl_p99, top1_agreement;  // the last from 0 to 1
  };
  double perplexity = 0;  // exp of the mean nll
  std::optional<Comparison> base;
};
// Error if a score is not finite.
Summary summarize(std::span<const TokenScore> scores, bool compared);

// The q-th quantile (0 to 1), linear between neighbours, of at least one value.
double quantile(std::vector<double> values, double q);

}  // namespace lamina
