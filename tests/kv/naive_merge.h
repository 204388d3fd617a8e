// SPDX-License-Identifier: Apache-2.0
// MiniCache by its formulas, in double: what two rows become and which rows are kept apart.
#pragma once
#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <vector>

#include "base/half.h"
#include "kv/layers/minicache.h"

namespace lamina::testing {

// What two rows of one tensor become.
struct NaiveMerge {
  std::vector<float> merged;
  double lower = 1, deeper = 1;
};
inline double naive_dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}
inline double naive_angle(std::span<const float> p, std::span<const float> c) {
  const double p_norm = std::sqrt(naive_dot(p, p)), c_norm = std::sqrt(naive_dot(c, c));
  if (p_norm == 0 || c_norm == 0) return 0;
  double minus = 0, plus = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    minus += std::pow(p[i] / p_norm - c[i] / c_norm, 2);
    plus += std::pow(p[i] / p_norm + c[i] / c_norm, 2);
  }
  return 2 * std::atan2(std::sqrt(minus), std::sqrt(plus));
}
// Of rows that are neither zero nor parallel nor opposite.
inline NaiveMerge naive_merge(const MiniCache& config, std::span<const float> p, std::span<const float> c) {
  NaiveMerge result{.merged = std::vector<float>(p.size())};
  const double omega = naive_angle(p, c), p_norm = std::sqrt(naive_dot(p, p)), c_norm = std::sqrt(naive_dot(c, c));
  const double largest = std::max(p_norm, c_norm);
  const double a = std::sin((1 - config.t) * omega) / std::sin(omega), b = std::sin(config.t * omega) / std::sin(omega);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double e = a * p[i] / p_norm + b * c[i] / c_norm;
    result.merged[i] = config.merge == MiniCache::Merge::kMean ? (p[i] + c[i]) / 2
                       : config.merge == MiniCache::Merge::kMaxNorm
                           ? static_cast<float>(e) * static_cast<float>(largest)
                           : static_cast<float>(e);
  }
  if (config.merge == MiniCache::Merge::kSlerp) {
    result.lower = f32_from_f16(f16_from_f32(static_cast<float>(p_norm)));
    result.deeper = f32_from_f16(f16_from_f32(static_cast<float>(c_norm)));
  }
  return result;
}

// Which rows of one tensor of a pair are kept apart (1.5 and 1.6 of the specification, R11).
struct NaiveRetention {
  bool seen = false;
  double least = 0, most = 0, smallest_kept = 0;

  std::vector<bool> prompt(const MiniCache& config, const std::vector<double>& d) {
    std::vector<bool> apart(d.size());
    if (d.empty()) return apart;
    least = seen ? std::min(least, *std::min_element(d.begin(), d.end())) : *std::min_element(d.begin(), d.end());
    most = seen ? std::max(most, *std::max_element(d.begin(), d.end())) : *std::max_element(d.begin(), d.end());
    seen = true;
    const auto count = static_cast<std::size_t>(std::ceil(config.keep * static_cast<double>(d.size())));
    smallest_kept = config.keep >= 1 ? -1 : 2;
    for (std::size_t i = 0; i < d.size(); ++i) {
      if (config.rule != MiniCache::Rule::kTop) {
        apart[i] = decoded(config, d[i]);
        continue;
      }
      std::size_t before = 0;  // rows that go before this one
      for (std::size_t j = 0; j < d.size(); ++j) before += d[j] > d[i] || (d[j] == d[i] && j < i);
      apart[i] = before < count;
      if (apart[i] && config.keep < 1) smallest_kept = std::min(smallest_kept, d[i]);
    }
    return apart;
  }
  bool decoded(const MiniCache& config, double d) const {
    if (!seen) return false;
    const auto cosine = [](double x) { return std::cos(x * std::numbers::pi); };
    switch (config.rule) {
      case MiniCache::Rule::kDistance:
        return d > most - config.keep * (most - least);
      case MiniCache::Rule::kTop:
        return d >= smallest_kept;
      case MiniCache::Rule::kCosine:
        return cosine(d) < cosine(most) + config.keep * (cosine(least) - cosine(most));
      default:
        return d < least + config.keep * (most - least);
    }
  }
};

}  // namespace lamina::testing
