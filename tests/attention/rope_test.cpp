// SPDX-License-Identifier: Apache-2.0
#include "attention/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "stored_rows.h"

namespace lamina {
namespace {

// Pair i of a head that is 1 on its first channel and 0 on its second turns into (cos, sin) of its angle.
std::pair<double, double> turned(const RopeConfig& config, int i, Pos pos) {
  Rope rope(config);
  rope.reserve(pos + 1);
  std::vector<float> x(static_cast<std::size_t>(config.dims), 0.0F);
  const int a = config.interleaved ? 2 * i : i, b = config.interleaved ? 2 * i + 1 : i + config.dims / 2;
  x[a] = 1;
  rope.rotate(x.data(), pos);
  return {x[a], x[b]};
}

void expect_angle(const RopeConfig& config, int i, Pos pos, double angle, double magnitude = 1) {
  const auto [cos, sin] = turned(config, i, pos);
  EXPECT_NEAR(cos, magnitude * std::cos(angle), 1e-6) << "pair " << i << " pos " << pos;
  EXPECT_NEAR(sin, magnitude * std::sin(angle), 1e-6) << "pair " << i << " pos " << pos;
}

TEST(Rope, AnglesOfBothPairings) {
  for (const bool interleaved : {false, true})
    for (const int i : {0, 1, 7, 31})
      for (const Pos pos : {0, 1, 77, 8191})
        expect_angle({.dims = 64, .base = 1e5, .interleaved = interleaved}, i, pos, pos * std::pow(1e5, -i / 32.0));
}

TEST(Rope, StaysExactAtFarPositions) {
  const Pos pos = 1000003;  // a float32 angle would be off by 0.03
  expect_angle({.dims = 4}, 1, pos, pos * std::pow(10000.0, -0.5));
}

TEST(Rope, ChannelsBeyondDimsPass) {
  Rope rope({.dims = 32});
  rope.reserve(10);
  std::mt19937 random(1);
  const std::vector<float> x = random_floats(random, 64);
  std::vector<float> y = x;
  rope.rotate(y.data(), 9);
  EXPECT_NE(std::vector(y.begin(), y.begin() + 32), std::vector(x.begin(), x.begin() + 32));
  EXPECT_EQ(std::vector(y.begin() + 32, y.end()), std::vector(x.begin() + 32, x.end()));
}

TEST(Rope, MeanIsThatOfThePositions) {
  const RopeConfig yarn{.dims = 16, .scaling = RopeScaling::kYarn, .factor = 4, .original_context = 512};
  for (const RopeConfig& config : {RopeConfig{.dims = 64}, RopeConfig{.dims = 8, .interleaved = true}, yarn})
    for (const auto& [first, count] : {std::pair{0, 1}, {5, 1}, {0, 512}, {1000, 37}}) {
      const NextPositions mean = Rope(config).mean(first, count, 0.5);
      EXPECT_EQ(mean.interleaved, config.interleaved);
      EXPECT_EQ(mean.scale, 0.5);
      ASSERT_EQ(mean.turn.size(), static_cast<std::size_t>(config.dims / 2));
      Rope rope(config);
      rope.reserve(first + count);
      for (int i = 0; i < config.dims / 2; ++i) {
        double cos = 0, sin = 0;
        for (Pos pos = first; pos < first + count; ++pos) {
          std::vector<float> x(static_cast<std::size_t>(config.dims), 0.0F);
          const int a = config.interleaved ? 2 * i : i, b = config.interleaved ? 2 * i + 1 : i + config.dims / 2;
          x[a] = 1;
          rope.rotate(x.data(), pos);
          cos += x[a], sin += x[b];
        }
        EXPECT_NEAR(mean.turn[i].real(), cos / count, 1e-7) << i;  // the table is of float32
        EXPECT_NEAR(mean.turn[i].imag(), sin / count, 1e-7) << i;
      }
    }
}

TEST(Rope, TableGrows) {
  Rope rope({.dims = 16}), whole({.dims = 16});
  for (const Pos n : {1, 5, 3, 100}) rope.reserve(n);
  whole.reserve(100);
  std::vector<float> a(16, 1.0F), b(16, 1.0F);
  rope.rotate(a.data(), 99);
  whole.rotate(b.data(), 99);
  EXPECT_EQ(a, b);
}

TEST(Rope, LinearDividesAllAngles) {
  expect_angle({.dims = 64, .scaling = RopeScaling::kLinear, .factor = 4}, 5, 1000, 250 * std::pow(10000.0, -5 / 32.0));
}

TEST(Rope, FrequencyFactorsDivideTheirPair) {
  RopeConfig config{.dims = 8, .base = 5e5, .frequency_factors = {1, 1, 3.5F, 8}};
  expect_angle(config, 1, 100, 100 * std::pow(5e5, -0.25));
  expect_angle(config, 2, 100, 100 * std::pow(5e5, -0.5) / 3.5);
  expect_angle(config, 3, 100, 100 * std::pow(5e5, -0.75) / 8);
}

// dims 64, base 10000, context 2048: pair 32 / 4 * log10(2048 / (2 pi beta)) turns beta times:
// 8.07 for 32 turns, 20.10 for one. So the ramp goes from pair 8 to pair 21.
TEST(Rope, YarnRampsBetweenFastAndSlowPairs) {
  const RopeConfig config{.dims = 64, .scaling = RopeScaling::kYarn, .factor = 16, .original_context = 2048};
  const double magnitude = 1 + 0.1 * std::log(16.0);
  const auto own = [](int i) { return std::pow(10000.0, -i / 32.0); };
  for (const Pos pos : {1, 500, 20000}) {
    expect_angle(config, 0, pos, pos * own(0), magnitude);
    expect_angle(config, 8, pos, pos * own(8), magnitude);
    const double kept = 1 - (12 - 8) / 13.0;
    expect_angle(config, 12, pos, pos * own(12) * (kept + (1 - kept) / 16), magnitude);
    expect_angle(config, 21, pos, pos * own(21) / 16, magnitude);
    expect_angle(config, 31, pos, pos * own(31) / 16, magnitude);
  }
}

TEST(Rope, YarnAttentionFactorAndNoExtrapolation) {
  RopeConfig config{.dims = 64, .scaling = RopeScaling::kYarn, .factor = 4, .original_context = 2048};
  config.attention_factor = 0.5;
  expect_angle(config, 0, 7, 7, 0.5 * (1 + 0.1 * std::log(4.0)));
  config.extrapolation = 0;  // plain linear scaling
  expect_angle(config, 0, 7, 7 / 4.0, 0.5);
}

}  // namespace
}  // namespace lamina
