// SPDX-License-Identifier: Apache-2.0
#include "engine/statistics.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>

#include "base/error.h"

namespace lamina {
namespace {

constexpr std::size_t kLanes = 16;   // side by side, so that the compiler makes vectors of them
constexpr std::size_t kBlock = 512;  // terms that are summed in float32, pairwise

// exp(x) for x <= 0, relative error 2e-7; e^-87 for what is below, NaN stays. std::exp is not made into vectors.
inline float exp_negative(float x) {
  constexpr float kRound = 12582912;  // 1.5 * 2^23: the sum's low bits are the rounded integer
  x = x < -87 ? -87 : x;
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts, n times the first is exact
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1;
  p = p * r + 1;
  return p * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U);  // times 2^n
}

float maximum(std::span<const float> x) {
  float lane[kLanes];
  std::fill(lane, lane + kLanes, x.front());
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  for (; i < x.size(); ++i) lane[0] = std::max(lane[0], x[i]);
  return *std::max_element(lane, lane + kLanes);
}

// The sum of fn(i) for i below n.
template <class Fn>
double sum(std::size_t n, Fn fn) {
  double total = 0;
  float terms[kBlock];
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t count = std::min(kBlock, n - begin);
    for (std::size_t i = 0; i < count; ++i) terms[i] = fn(begin + i);
    std::fill(terms + count, terms + kBlock, 0.0F);
    for (std::size_t half = kBlock / 2; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i) terms[i] += terms[i + half];
    total += static_cast<double>(terms[0]);
  }
  return total;
}

struct Row {
  explicit Row(std::span<const float> logits) : x(logits), max(maximum(logits)) {
    exp_sum = sum(x.size(), [this](std::size_t i) { return exp_negative(x[i] - max); });
    log_sum = static_cast<double>(max) + std::log(exp_sum);
  }
  double nll(Token token) const { return log_sum - static_cast<double>(x[static_cast<std::size_t>(token)]); }
  std::ptrdiff_t top() const { return std::find(x.begin(), x.end(), max) - x.begin(); }

  std::span<const float> x;
  float max;
  double exp_sum = 0;  // of exp(x - max)
  double log_sum = 0;  // ln of the sum of exp(x)
};

double perplexity(std::span<const TokenScore> scores, double TokenScore::*nll) {
  double total = 0;
  for (const TokenScore& score : scores) total += score.*nll;
  return std::exp(total / static_cast<double>(scores.size()));
}

}  // namespace

TokenScore score_token(std::span<const float> logits, Token token) { return {.nll = Row(logits).nll(token)}; }

TokenScore compare_token(std::span<const float> base, std::span<const float> logits, Token token) {
  assert(base.size() == logits.size());
  const Row p(base), q(logits);
  // KL = sum of p (ln p - ln q); with all logits below their row's largest, a constant added to a row costs no digits.
  const double difference = sum(p.x.size(), [&p, &q](std::size_t i) {
    const float below = p.x[i] - p.max;
    return exp_negative(below) * (below - (q.x[i] - q.max));
  });
  const double kl = difference / p.exp_sum - std::log(p.exp_sum / q.exp_sum);
  return {.nll = q.nll(token),
          .base_nll = p.nll(token),
          .kl = kl < 0 ? 0 : kl,  // rounding; NaN stays
          .same_top = p.top() == q.top()};
}

Summary summarize(std::span<const TokenScore> scores, bool compared) {
  require(!scores.empty(), "no token was scored");
  for (const TokenScore& score : scores)
    require(std::isfinite(score.nll) && std::isfinite(score.base_nll) && std::isfinite(score.kl),
            "scored token {} has logits that are not finite", &score - scores.data());
  Summary summary{.perplexity = perplexity(scores, &TokenScore::nll), .base = {}};
  if (!compared) return summary;
  std::vector<double> kl;
  double total = 0, same = 0;
  for (const TokenScore& score : scores) {
    kl.push_back(score.kl);
    total += score.kl;
    same += score.same_top ? 1 : 0;
  }
  const auto n = static_cast<double>(scores.size());
  summary.base = {.base_perplexity = perplexity(scores, &TokenScore::base_nll),
                  .kl_mean = total / n,
                  .kl_median = quantile(kl, 0.5),
                  .kl_p99 = quantile(kl, 0.99),
                  .top1_agreement = same / n};
  return summary;
}

double quantile(std::vector<double> values, double q) {
  assert(!values.empty() && 0 <= q && q <= 1);
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace lamina
