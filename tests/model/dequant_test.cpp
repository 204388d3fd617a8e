// SPDX-License-Identifier: Apache-2.0
#include "model/dequant.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

namespace lamina {
namespace {

// Made by tools/golden_dequant.py: TYPE.blocks are random blocks, TYPE.values what the `gguf` package makes of them.
const GgufFile& golden() {
  static const GgufFile file = GgufFile::open(LAMINA_TESTS "/golden/dequant/blocks.gguf");
  return file;
}

std::vector<float> dequantized(const TensorView& tensor) {
  const auto cols = static_cast<std::size_t>(tensor.cols());
  std::vector<float> all(static_cast<std::size_t>(tensor.rows()) * cols);
  for (std::int64_t row = 0; row < tensor.rows(); ++row) {
    dequantize(tensor.type, tensor.row(row), std::span(all).subspan(static_cast<std::size_t>(row) * cols, cols));
  }
  return all;
}

class Dequant : public testing::TestWithParam<TensorType> {};

TEST_P(Dequant, EqualsTheGgufPackageToTheBit) {
  const std::string type(name(GetParam()));
  const TensorView& blocks = golden().tensor(type + ".blocks");
  const TensorView& values = golden().tensor(type + ".values");
  ASSERT_EQ(blocks.type, GetParam());
  ASSERT_EQ(blocks.shape, values.shape);
  ASSERT_EQ(values.type, TensorType::kF32);
  ASSERT_EQ(blocks.cols() / block_weights(blocks.type) % 2, 1) << "an odd number of blocks is wanted";
  const std::vector<float> found = dequantized(blocks);
  const std::vector<float> expected = dequantized(values);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]), std::bit_cast<std::uint32_t>(expected[i]))
        << "weight " << i << ": " << found[i] << ", expected " << expected[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Dequant, testing::ValuesIn(tensor_types().begin(), tensor_types().end()),
                         [](const auto& test) { return std::string(name(test.param)); });

// By hand, so that a mistake in the golden file's making shows.
TEST(DequantByHand, Q4_1) {
  std::vector<std::byte> block(20, std::byte{0x21});  // every pair: low 1, high 2
  block[0] = std::byte{0x00};
  block[1] = std::byte{0x38};  // d = 0.5
  block[2] = std::byte{0x00};
  block[3] = std::byte{0xc0};  // m = -2
  std::vector<float> out(32);
  dequantize(TensorType::kQ4_1, block, out);
  EXPECT_EQ(out[0], -1.5F);
  EXPECT_EQ(out[15], -1.5F);
  EXPECT_EQ(out[16], -1.0F);
  EXPECT_EQ(out[31], -1.0F);
}

TEST(DequantByHand, Mxfp4LargestExponentOverflowsToInfinity) {
  std::vector<std::byte> block(17, std::byte{0x17});  // low 7 is 12 halves, high 1 is one half
  block[0] = std::byte{255};
  std::vector<float> out(32);
  dequantize(TensorType::kMXFP4, block, out);
  EXPECT_TRUE(std::isinf(out[0]));
  EXPECT_EQ(out[16], 0x1p127F);
}

TEST(DequantByHand, NoWeightsIsFine) { dequantize(TensorType::kQ4_K, {}, {}); }

}  // namespace
}  // namespace lamina
