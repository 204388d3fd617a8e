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

constexpr double kNormal95 = 1.959963984540054;  // 95 % of a normal distribution lie so many deviations around its mean

template <class Fn>
std::vector<double> each_score(std::span<const TokenScore> scores, Fn fn) {
  std::vector<double> values(scores.size());
  std::ranges::transform(scores, values.begin(), fn);
  return values;
}

Interval exp(Interval x) { return {std::exp(x.low), std::exp(x.high)}; }

Summary::Comparison compare(std::span<const TokenScore> scores) {
  const std::vector<double> kl = each_score(scores, &TokenScore::kl);
  const std::vector<double> more = each_score(scores, [](const TokenScore& s) { return s.nll - s.base_nll; });
  const auto same = static_cast<std::size_t>(std::ranges::count(scores, true, &TokenScore::same_top));
  const double kl_mean = mean(kl), kl_error = standard_error(kl), ln_ratio_error = standard_error(more);
  const Interval around_kl = around(kl_mean, kl_error);
  return {.base_perplexity = std::exp(mean(each_score(scores, &TokenScore::base_nll))),
          .kl_mean = kl_mean,
          .kl_median = quantile(kl, 0.5),
          .kl_p99 = quantile(kl, 0.99),
          .top1_agreement = static_cast<double>(same) / static_cast<double>(scores.size()),
          .kl_error = kl_error,
          .ln_ratio_error = ln_ratio_error,
          .kl = {around_kl.low < 0 ? 0 : around_kl.low, around_kl.high},
          .top1 = wilson(same, scores.size()),
          .ratio = exp(around(mean(more), ln_ratio_error))};
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
  const std::vector<double> nll = each_score(scores, &TokenScore::nll);
  const double mean_nll = mean(nll), error = standard_error(nll);
  return {.perplexity = std::exp(mean_nll),
          .ln_perplexity_error = error,
          .interval = exp(around(mean_nll, error)),
          .base = compared ? std::optional(compare(scores)) : std::nullopt};
}

std::array<Third, 3> thirds(std::span<const TokenScore> scores, std::size_t each) {
  assert(each > 0 && scores.size() % each == 0);
  std::array<std::vector<TokenScore>, 3> parts;
  for (std::size_t i = 0; i < scores.size(); ++i) parts[3 * (i % each) / each].push_back(scores[i]);
  std::array<Third, 3> result;
  std::ranges::transform(parts, result.begin(), [](const std::vector<TokenScore>& part) -> Third {
    const auto mean_of = [&](auto fn) { return mean(each_score(part, fn)); };
    return {.tokens = part.size(),
            .perplexity = std::exp(mean_of(&TokenScore::nll)),
            .kl_mean = mean_of(&TokenScore::kl),
            .top1_agreement = mean_of([](const TokenScore& s) { return s.same_top ? 1.0 : 0.0; })};
  });
  return result;
}

double mean(std::span<const double> values) {
  double total = 0;
  for (const double x : values) total += x;
  return total / static_cast<double>(values.size());
}

double standard_error(std::span<const double> values) {
  const double center = mean(values), n = static_cast<double>(values.size());
  double squares = 0;
  for (const double x : values) squares += (x - center) * (x - center);
  return std::sqrt(squares / (n - 1) / n);
}

Interval around(double mean, double error) { return {mean - kNormal95 * error, mean + kNormal95 * error}; }

Interval wilson(std::size_t found, std::size_t asked) {
  assert(asked > 0 && found <= asked);
  const double n = static_cast<double>(asked), p = static_cast<double>(found) / n, z2 = kNormal95 * kNormal95;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n),
               half = kNormal95 / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {found == 0 ? 0 : center - half, found == asked ? 1 : center + half};
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
