// SPDX-License-Identifier: Apache-2.0
// What rows of logits say of the tokens that followed: negative log-likelihood, KL divergence to a base, agreement.
// Exponentials are float32, sums are double in one fixed order.
#pragma once
#include <array>
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

// 95 %, of tokens taken as independent of each other: neighbours are not quite, so the truth is somewhat wider.
struct Interval {
  double low = 0, high = 0;
};
double mean(std::span<const double> values);  // of at least one
// The standard error of a mean: the values' deviation (n - 1) over the root of n. NaN of a single value.
double standard_error(std::span<const double> values);
Interval around(double mean, double error);             // mean +- 1.96 errors
Interval wilson(std::size_t found, std::size_t asked);  // of a share, by E. B. Wilson (1927); from 0 to 1

// One of three equal parts of what was scored of each window, in the order of the text.
struct Third {
  std::size_t tokens = 0;
  double perplexity = 0, kl_mean = 0, top1_agreement = 0;  // NaN where there is no token; the last two of a comparison
};

struct Summary {
  struct Comparison {
    double base_perplexity, kl_mean, kl_median, kl_p99, top1_agreement;  // the last from 0 to 1
    double kl_error;                                                     // the standard error of kl_mean
    double ln_ratio_error;  // of the mean difference of nll and base_nll: ln (perplexity / base_perplexity)
    Interval kl, top1;      // of the mean, not below 0; Wilson's
    Interval ratio;         // of perplexity / base_perplexity, exp of the mean difference's
  };
  double perplexity = 0;           // exp of the mean nll
  double ln_perplexity_error = 0;  // the standard error of the mean nll
  Interval interval;               // of the perplexity: exp of the mean nll's
  std::optional<Comparison> base;
};
// Error if a score is not finite.
Summary summarize(std::span<const TokenScore> scores, bool compared);
// scores: [window][each]. Early, middle and late tokens of the windows: token i of n is in third 3 i / n.
std::array<Third, 3> thirds(std::span<const TokenScore> scores, std::size_t each);

// The q-th quantile (0 to 1), linear between neighbours, of at least one value.
double quantile(std::vector<double> values, double q);

}  // namespace lamina
