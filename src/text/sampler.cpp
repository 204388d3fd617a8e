// SPDX-License-Identifier: Apache-2.0
#include "text/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace lamina {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

// [0, 1), from the upper 53 bits.
double uniform(std::mt19937_64& generator) { return static_cast<double>(generator() >> 11) * 0x1p-53; }

void require_finite(std::span<const float> logits) {
  // By the exponent's bits and without an exit, so that the compiler vectorises it.
  constexpr std::uint32_t kExponent = 0x7f800000;
  bool finite = true;
  for (const float logit : logits) finite &= (std::bit_cast<std::uint32_t>(logit) & kExponent) != kExponent;
  if (finite) return;
  for (std::size_t token = 0; token < logits.size(); ++token) {
    require(std::isfinite(logits[token]), "the logit of token {} is {}, expected a finite number", token,
            logits[token]);
  }
}

template <class T>
void require_between(const char* name, T value, double min, double max) {
  require(value >= min && value <= max, "{} is {}, expected {} to {}", name, value, min, max);
}

}  // namespace

void SamplerConfig::validate() const {
  require_between("temperature", temperature, 0, 1e6);
  require_between("top_k", top_k, 0, std::numeric_limits<int>::max());
  require_between("top_p", top_p, 0, 1);
  require_between("min_p", min_p, 0, 1);
  require_between("repeat_penalty", repeat_penalty, 0.01, 100);
  require_between("presence_penalty", presence_penalty, -100, 100);
  require_between("frequency_penalty", frequency_penalty, -100, 100);
  require_between("repeat_last_n", repeat_last_n, -1, std::numeric_limits<int>::max());
  for (const auto& [token, bias] : logit_bias) {
    require(token >= 0, "logit_bias names the token {}, expected 0 or more", token);
    require(bias == kBanned || std::abs(bias) <= 1e6F, "logit_bias of token {} is {}, expected -1e6 to 1e6 or -inf",
            token, bias);
  }
}

Sampler::Sampler(SamplerConfig config) : config_(std::move(config)), generator_(config_.seed) { config_.validate(); }

Token Sampler::sample(std::span<const float> logits) {
  require(!logits.empty(), "there are no logits to sample from");
  require_finite(logits);
  adjust(logits);
  if (config_.temperature == 0) {
    const auto best = std::ranges::max_element(adjusted_);  // the first of equals
    require(best != adjusted_.end() && *best != kBanned, "every token is banned, nothing is left to sample");
    return static_cast<Token>(best - adjusted_.begin());
  }
  keep_top_k();
  require(!candidates_.empty(), "every token is banned, nothing is left to sample");
  keep_top_p();
  keep_min_p();
  return draw();
}

void Sampler::accept(Token token) {
  require(token >= 0, "the accepted token is {}, expected 0 or more", token);
  if (config_.repeat_last_n == 0) return;
  recent_.push_back(token);
  ++counts_[token];
  if (config_.repeat_last_n < 0 || recent_.size() <= static_cast<std::size_t>(config_.repeat_last_n)) return;
  const auto oldest = counts_.find(recent_.front());
  if (--oldest->second == 0) counts_.erase(oldest);
  recent_.pop_front();
}

void Sampler::adjust(std::span<const float> logits) {
  adjusted_.assign(logits.begin(), logits.end());
  const auto at = [&](Token token) -> float& {
    require(static_cast<std::size_t>(token) < adjusted_.size(), "token {} is not in the vocabulary of {}", token,
            adjusted_.size());
    return adjusted_[static_cast<std::size_t>(token)];
  };
  for (const auto& [token, bias] : config_.logit_bias) at(token) += bias;
  for (const auto& [token, count] : counts_) {
    float& logit = at(token);
    logit = logit > 0 ? logit / config_.repeat_penalty : logit * config_.repeat_penalty;
    logit -= static_cast<float>(count) * config_.frequency_penalty + config_.presence_penalty;
    require(std::isfinite(logit) || logit == kBanned,
            "the logit of token {} is {} after penalties, expected a finite one", token, logit);
  }
}

bool Sampler::better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

void Sampler::keep_top_k() {
  candidates_.clear();
  const auto k = static_cast<std::size_t>(config_.top_k);
  const bool all = k == 0 || k >= adjusted_.size();
  // A heap of the best k so far, the worst of them in front. Ids ascend, so a later equal never replaces an earlier.
  float worst = kBanned;
  for (std::size_t token = 0; token < adjusted_.size(); ++token) {
    if (!(adjusted_[token] > worst)) continue;
    if (!all && candidates_.size() == k) {
      std::ranges::pop_heap(candidates_, better);
      candidates_.pop_back();
    }
    candidates_.push_back({static_cast<Token>(token), adjusted_[token]});
    if (all) continue;
    std::ranges::push_heap(candidates_, better);
    if (candidates_.size() == k) worst = candidates_.front().logit;
  }
  if (!all) std::ranges::sort_heap(candidates_, better);
}

void Sampler::keep_top_p() {
  if (config_.top_p >= 1) return;
  const double best = best_logit();
  double total = 0;
  for (const Candidate& candidate : candidates_) total += std::exp(candidate.logit - best);
  const double wanted = config_.top_p * total;
  // Few tokens hold most of the probability: sort ever longer prefixes until they hold enough.
  double held = 0;
  std::size_t kept = 0;
  for (std::size_t sorted = 0; sorted < candidates_.size();) {
    const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
    sorted = std::min(candidates_.size(), std::max<std::size_t>(64, sorted * 8));
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
    if (end != candidates_.end()) std::nth_element(begin, end, candidates_.end(), better);
    std::sort(begin, end, better);
    while (kept < sorted) {
      held += std::exp(candidates_[kept++].logit - best);
      if (held >= wanted) return candidates_.resize(kept);
    }
  }
}

void Sampler::keep_min_p() {
  if (config_.min_p <= 0) return;
  const double least = best_logit() + std::log(static_cast<double>(config_.min_p));
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.logit < least; });
}

Token Sampler::draw() {
  const double best = best_logit();
  weights_.clear();
  double total = 0;
  for (const Candidate& candidate : candidates_) {
    weights_.push_back(std::exp((candidate.logit - best) / config_.temperature));
    total += weights_.back();
  }
  const double chosen = uniform(generator_) * total;
  double passed = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    passed += weights_[i];
    if (chosen < passed) return candidates_[i].token;
  }
  // total was summed in the same order, so passed == total > chosen at the end of the loop.
  fail("no token could be drawn from {} candidates", candidates_.size());
}

float Sampler::best_logit() const { return std::ranges::max(candidates_, {}, &Candidate::logit).logit; }

}  // namespace lamina
