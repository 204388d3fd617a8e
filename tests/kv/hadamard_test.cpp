// SPDX-License-Identifier: Apache-2.0
#include "kv/bits/hadamard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

namespace lamina {
namespace {

std::vector<float> random_row(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = normal(random);
  return x;
}

// Entry (i, j) of the matrix is -1 to the number of bits that i and j have in common.
TEST(Hadamard, IsTheMatrixProductBlockByBlock) {
  for (const int n : {1, 2, 20, 32, 48, 64, 80, 96, 128, 256}) {
    const int block = n & -n;
    const std::vector<float> x = random_row(n, static_cast<unsigned>(n));
    std::vector<float> y = x;
    hadamard(y.data(), n);
    for (int i = 0; i < n; ++i) {
      double sum = 0;
      for (int j = 0; j < block; ++j) {
        const bool minus = std::popcount(static_cast<unsigned>(i % block & j)) % 2 == 1;
        sum += (minus ? -1.0 : 1.0) * x[static_cast<std::size_t>(i / block * block + j)];
      }
      EXPECT_NEAR(y[static_cast<std::size_t>(i)], sum / std::sqrt(block), 1e-5) << n << " " << i;
    }
  }
}

TEST(Hadamard, IsItsOwnInverseAndKeepsDotProducts) {
  for (const int n : {64, 80, 256}) {
    const std::vector<float> x = random_row(n, 1), z = random_row(n, 2);
    std::vector<float> hx = x, hz = z;
    hadamard(hx.data(), n);
    hadamard(hz.data(), n);
    double before = 0, after = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      before += double{x[i]} * z[i];
      after += double{hx[i]} * hz[i];
    }
    EXPECT_NEAR(before, after, 1e-4);
    hadamard(hx.data(), n);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(hx[i], x[i], 1e-5);
  }
}

TEST(Hadamard, SpreadsOneChannelOverAll) {
  std::vector<float> x(64);
  x[17] = 8;
  hadamard(x.data(), 64);
  for (const float value : x) EXPECT_EQ(std::fabs(value), 1.0F);
}

}  // namespace
}  // namespace lamina
