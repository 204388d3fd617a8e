// SPDX-License-Identifier: Apache-2.0
// The row operations of every instruction set against double precision, in place and at odd sizes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kernels/kernels.h"

namespace lamina {
namespace {

constexpr std::size_t kSizes[] = {1, 15, 16, 17, 31, 33, 64, 576};

std::vector<float> random_floats(std::size_t n, unsigned seed, float sigma = 2) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> out(n);
  for (auto& v : out) v = normal(random);
  return out;
}

class Ops : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << name(GetParam()) << " is not supported here";
  }
  const Kernels& table() const { return kernels(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(AllIsas, Ops, testing::ValuesIn(kAllIsas),
                         [](const auto& test) { return std::string(name(test.param)); });

// Relative to the value, with a floor for results near zero: 3e-7 is a few float32 roundings.
void expect_near(double found, double expected, double tolerance) {
  EXPECT_NEAR(found, expected, tolerance * (std::abs(expected) + 1e-3));
}

TEST_P(Ops, RotationsTurnPairsOfChannels) {
  for (const std::size_t n : {1, 4, 7, 8, 15, 16, 17, 32, 128}) {
    const auto x = random_floats(2 * n, 3), cos = random_floats(n, 4), sin = random_floats(n, 5);
    for (const bool interleaved : {false, true}) {
      std::vector<float> turned = x;
      turned.push_back(7.0F);
      (interleaved ? table().rotate_pairs : table().rotate_halves)(turned.data(), cos.data(), sin.data(), n);
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : n + i;
        const double tolerance = 2e-7 * (std::abs(x[a]) + std::abs(x[b])) * (std::abs(cos[i]) + std::abs(sin[i]));
        EXPECT_NEAR(turned[a], double{x[a]} * cos[i] - double{x[b]} * sin[i], tolerance) << n << " " << i;
        EXPECT_NEAR(turned[b], double{x[a]} * sin[i] + double{x[b]} * cos[i], tolerance) << n << " " << i;
      }
      EXPECT_EQ(turned[2 * n], 7.0F) << "wrote past the end, n = " << n;
    }
  }
}

TEST_P(Ops, RmsnormDividesByTheRootMeanSquare) {
  for (const std::size_t n : kSizes) {
    const auto x = random_floats(n, 1);
    const auto weight = random_floats(n, 2);
    std::vector<float> out(n + 1, 7.0F);
    table().rmsnorm(x.data(), weight.data(), n, 1e-5F, out.data());
    double squares = 0;
    for (const float v : x) squares += double{v} * v;
    for (std::size_t i = 0; i < n; ++i)
      expect_near(out[i], x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * weight[i], 1e-6);
    EXPECT_EQ(out[n], 7.0F) << "wrote past the end, n = " << n;
    auto in_place = x;
    table().rmsnorm(in_place.data(), weight.data(), n, 1e-5F, in_place.data());
    EXPECT_TRUE(std::equal(in_place.begin(), in_place.end(), out.begin()));
  }
}

TEST_P(Ops, AddAndScaleChangeOnlyTheirRow) {
  for (const std::size_t n : kSizes) {
    const auto x = random_floats(n, 3);
    const auto y = random_floats(n, 4);
    auto out = x;
    out.push_back(7.0F);
    table().add(out.data(), y.data(), n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], x[i] + y[i]);
    table().scale(out.data(), 3.0F, n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], (x[i] + y[i]) * 3.0F);
    EXPECT_EQ(out[n], 7.0F);
  }
}

using Reference = std::function<double(double)>;
using Gated = void (*)(const float*, const float*, std::size_t, float*);

void check_gated(Gated op, const Reference& activation) {
  for (const std::size_t n : kSizes) {
    auto gate = random_floats(n, 5, 6);
    gate[0] = -120;  // exp of it overflows: the result must still be zero
    gate[n / 2] = 90;
    gate[n - 1] = 0;
    const auto up = random_floats(n, 6);
    std::vector<float> out(n + 1, 7.0F);
    op(gate.data(), up.data(), n, out.data());
    for (std::size_t i = 0; i < n; ++i) expect_near(out[i], activation(gate[i]) * up[i], 1e-6);
    EXPECT_EQ(out[n], 7.0F);
  }
}

TEST_P(Ops, SiluMul) {
  check_gated(table().silu_mul, [](double g) { return g / (1 + std::exp(-g)); });
}

TEST_P(Ops, GeluTanhMul) {
  check_gated(table().gelu_tanh_mul,
              [](double g) { return g / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))); });
}

TEST_P(Ops, ExpIsAccurateOverItsWholeRange) {
  // silu(-x) with up = 1/x shows 1 / (1 + exp(x)): for x > 20 this is exp(-x) to float32.
  for (int i = 0; i < 175; ++i) {
    const float x = 20 + 0.37F * static_cast<float>(i);
    const float gate = -x;
    const float up = -1 / x;
    float out = 0;
    table().silu_mul(&gate, &up, 1, &out);
    const double exact = double{gate} * up / (1 + std::exp(double{x}));
    EXPECT_NEAR(out / exact, 1, 6e-7) << x;
  }
}

TEST_P(Ops, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float out = 0;
  const float one = 1;
  table().silu_mul(&nan, &one, 1, &out);
  EXPECT_TRUE(std::isnan(out));
}

TEST(Half, RoundTripsEveryF16AndRoundsToNearestEven) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float value = f32_from_f16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(f16_from_f32(value), bits);
  }
  EXPECT_EQ(f16_from_f32(1 + 0x1p-11F), 0x3c00) << "a tie goes to the even neighbour";
  EXPECT_EQ(f16_from_f32(1 + 0x3p-11F), 0x3c02);
  EXPECT_EQ(f16_from_f32(65519.0F), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0F), 0x7c00);
  EXPECT_EQ(f16_from_f32(0x1p-25F), 0);
  EXPECT_EQ(f16_from_f32(0x1.8p-25F), 1);
  EXPECT_EQ(bf16_from_f32(1 + 0x1p-8F), 0x3f80);
  EXPECT_EQ(bf16_from_f32(1 + 0x3p-8F), 0x3f82);
  EXPECT_TRUE(std::isnan(f32_from_bf16(bf16_from_f32(std::numeric_limits<float>::signaling_NaN()))));
}

TEST(Isa, EnvironmentChoosesAndRefuses) {
  const char* before = std::getenv("LAMINA_ISA");
  const std::string saved = before == nullptr ? "" : before;
  setenv("LAMINA_ISA", "scalar", 1);
  EXPECT_EQ(chosen_isa(), Isa::kScalar);
  setenv("LAMINA_ISA", "sse9", 1);
  EXPECT_THROW(chosen_isa(), Error);
  setenv("LAMINA_ISA", saved.c_str(), 1);
  EXPECT_TRUE(supported(chosen_isa()));
}

}  // namespace
}  // namespace lamina
