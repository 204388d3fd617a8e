// SPDX-License-Identifier: Apache-2.0
// The loops behind the machine's limits do what they count, on every instruction set. Their speed is nobody's promise.
#include "engine/machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/peak.h"

namespace lamina {
namespace {

class Peak : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << name(GetParam()) << " is not supported here";
  }
  PeakKernels table() const { return peak_kernels(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(AllIsas, Peak, testing::ValuesIn(kAllIsas),
                         [](const auto& test) { return std::string(name(test.param)); });

// Every multiplication of ones adds one: the sum of all lanes is the number of multiply-adds. Exact below 2^24.
TEST_P(Peak, DotProductsCountTheirOperations) {
  for (const PeakLoop& loop : {table().int8, table().bf16}) {
    if (loop.run == nullptr) continue;
    for (const int rounds : {0, 1, 7, 1000})
      EXPECT_EQ(loop.run(rounds), static_cast<float>(loop.operations / 2 * rounds)) << rounds;
  }
}

// A chain from 0 by x = 0.999 x + 0.001 is at 1 - 0.999^n after n steps; 1e-4 leaves room for n float32 roundings.
TEST_P(Peak, MultiplyAddsCountTheirOperations) {
  const PeakLoop loop = table().f32;
  for (const int rounds : {0, 1, 100, 1000}) {
    const double chains = loop.operations / 2;
    EXPECT_NEAR(loop.run(rounds), chains * (1 - std::pow(0.999, rounds)), 1e-4 * chains) << rounds;
  }
}

// A word of one bit set, wherever it is, counts.
TEST_P(Peak, ReadsAllThatItIsGiven) {
  std::vector<std::int32_t> memory(4 * kReadBytes / sizeof(std::int32_t));
  const auto read = [&] { return table().read(reinterpret_cast<const std::byte*>(memory.data()), 4 * kReadBytes); };
  EXPECT_EQ(read(), 0);
  for (std::int32_t& word : memory) {
    word = 1;
    EXPECT_EQ(read(), 1);
    word = 0;
  }
}

TEST(Machine, LimitsArePositive) {
  ThreadPool pool(2);
  const MachineLimits limits = measure_machine(pool, 0.001);
  EXPECT_EQ(limits.threads, 2);
  for (const double speed : {limits.read_bytes, limits.f32_ops, limits.int8_ops})
    EXPECT_TRUE(std::isfinite(speed) && speed > 0) << speed;
  EXPECT_TRUE(std::isfinite(limits.bf16_ops) && limits.bf16_ops >= 0);
}

TEST(Machine, ThreadsDoubleUpToAll) {
  EXPECT_EQ(thread_steps(1), std::vector<int>({1}));
  EXPECT_EQ(thread_steps(2), std::vector<int>({1, 2}));
  EXPECT_EQ(thread_steps(6), std::vector<int>({1, 2, 4, 6}));
  EXPECT_EQ(thread_steps(8), std::vector<int>({1, 2, 4, 8}));
}

TEST(Machine, BoundIsTheLongerOfMemoryAndArithmetic) {
  const MachineLimits limits{.threads = 1, .read_bytes = 10, .f32_ops = 100, .bf16_ops = 0, .int8_ops = 400};
  const auto expect = [&](const Work& work, double seconds, const char* by) {
    EXPECT_DOUBLE_EQ(bound(limits, work).seconds, seconds);
    EXPECT_STREQ(bound(limits, work).by, by);
  };
  expect({}, 0, "");
  expect({.bytes = 20}, 2, "memory");
  expect({.bytes = 20, .f32_ops = 100}, 2, "memory");
  expect({.bytes = 20, .f32_ops = 300}, 3, "float32");
  expect({.bytes = 20, .int_ops = 1200}, 3, "int8");
  expect({.bytes = 20, .f32_ops = 100, .int_ops = 1200}, 4, "int8");
}

}  // namespace
}  // namespace lamina
