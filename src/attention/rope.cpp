// SPDX-License-Identifier: Apache-2.0
#include "attention/rope.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <utility>

namespace lamina {
namespace {

// The pair (as a real number) that turns `turns` times over the original context.
double pair_of_turns(const RopeConfig& config, double turns) {
  return config.dims * std::log(config.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(config.base));
}

// [dims / 2] how much of its own frequency each pair keeps under YaRN: 1 for fast pairs, 0 for slow ones.
std::vector<double> yarn_kept(const RopeConfig& config) {
  const double low = std::max(0.0, std::floor(pair_of_turns(config, config.beta_fast)));
  const double high = std::min(config.dims - 1.0, std::ceil(pair_of_turns(config, config.beta_slow)));
  std::vector<double> kept;
  kept.reserve(static_cast<std::size_t>(config.dims / 2));
  for (int i = 0; i < config.dims / 2; ++i) {
    const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
    kept.push_back((1 - ramp) * config.extrapolation);
  }
  return kept;
}

std::vector<double> frequencies(const RopeConfig& config) {
  const int pairs = config.dims / 2;
  std::vector<double> frequency;
  frequency.reserve(static_cast<std::size_t>(pairs));
  for (int i = 0; i < pairs; ++i) frequency.push_back(std::pow(config.base, -2.0 * i / config.dims));
  if (!config.frequency_factors.empty())
    for (int i = 0; i < pairs; ++i) frequency[i] /= config.frequency_factors[i];
  if (config.scaling == RopeScaling::kNone) return frequency;
  const std::vector<double> kept =
      config.scaling == RopeScaling::kYarn ? yarn_kept(config) : std::vector<double>(pairs, 0.0);
  for (int i = 0; i < pairs; ++i) frequency[i] *= kept[i] + (1 - kept[i]) / config.factor;
  return frequency;
}

double magnitude(const RopeConfig& config) {
  if (config.scaling != RopeScaling::kYarn) return 1;
  // Without extrapolation there is nothing that the paper's temperature would correct (as llama.cpp decides).
  return config.attention_factor * (config.extrapolation != 0 ? 1 + 0.1 * std::log(config.factor) : 1);
}

}  // namespace

Rope::Rope(RopeConfig config, Isa isa)
    : config_(std::move(config)),
      frequency_(frequencies(config_)),
      magnitude_(magnitude(config_)),
      rotate_(config_.interleaved ? kernels(isa).rotate_pairs : kernels(isa).rotate_halves) {
  assert(config_.dims % 2 == 0);
  assert(config_.frequency_factors.empty() || config_.frequency_factors.size() == frequency_.size());
}

void Rope::reserve(Pos positions) {
  if (positions <= positions_) return;
  table_.resize(static_cast<std::size_t>(positions) * static_cast<std::size_t>(config_.dims));
  for (Pos pos = positions_; pos < positions; ++pos) {
    float* cos = table_.data() + static_cast<std::size_t>(pos) * static_cast<std::size_t>(config_.dims);
    float* sin = cos + frequency_.size();
    for (std::size_t i = 0; i < frequency_.size(); ++i) {
      const double angle = pos * frequency_[i];
      cos[i] = static_cast<float>(std::cos(angle) * magnitude_);
      sin[i] = static_cast<float>(std::sin(angle) * magnitude_);
    }
  }
  positions_ = positions;
}

void Rope::rotate(float* x, Pos pos) const {
  assert(pos >= 0 && pos < positions_);
  const float* cos = table_.data() + static_cast<std::size_t>(pos) * static_cast<std::size_t>(config_.dims);
  const float* sin = cos + frequency_.size();
  rotate_(x, cos, sin, frequency_.size());
}

// The mean of exp(i f pos) is that of the middle, shortened by what the others cancel.
NextPositions Rope::mean(Pos first, Pos count, double scale) const {
  NextPositions next{.turn = {}, .interleaved = config_.interleaved, .scale = scale};
  for (const double f : frequency_) {
    const double one = std::sin(f / 2), length = one == 0 ? 1 : std::sin(count * f / 2) / (count * one);
    next.turn.push_back(std::polar(1.0, f * (first + (count - 1) / 2.0)) * (length * magnitude_));
  }
  return next;
}

}  // namespace lamina
