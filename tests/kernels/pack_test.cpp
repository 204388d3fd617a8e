// SPDX-License-Identifier: Apache-2.0
// What packing loses: every type against its de-quantised weights.
#include "model/pack.h"

#include <gtest/gtest.h>

#include "packed.h"

namespace lamina {
namespace {

double packing_error(const Tensor& t, const Matrix& m) {  // relative RMS
  const auto exact = dequantized(t.view);
  double error = 0;
  double size = 0;
  for (std::int64_t r = 0; r < t.view.rows(); ++r)
    for (std::int64_t c = 0; c < t.view.cols(); ++c) {
      const double w = exact[static_cast<std::size_t>(r * t.view.cols() + c)];
      error += (packed_weight(m, r, c) - w) * (packed_weight(m, r, c) - w);
      size += w * w;
    }
  return std::sqrt(error / size);
}

class Packing : public testing::TestWithParam<TensorType> {};
INSTANTIATE_TEST_SUITE_P(AllTypes, Packing, testing::ValuesIn(kAllTypes),
                         [](const auto& test) { return std::string(name(test.param)); });

double allowed_error(TensorType type) {
  switch (type) {
    case TensorType::kQ4_K:
      return 1e-3;  // two factors rounded to f16, 5e-4 of each at most
    case TensorType::kQ5_1:
    case TensorType::kQ2_K:
    case TensorType::kQ5_K:
    case TensorType::kQ6_K:
      return 6e-3;  // 8 bits of the block's largest weight
    default:
      return 0;
  }
}

TEST_P(Packing, LosesNoMoreThanTheHeaderSays) {
  ThreadPool pool(2);
  for (const std::int64_t rows : {1, 16, 37}) {
    const Tensor t = random_tensor(GetParam(), rows, 512, 7);
    const Matrix m = packed(t.view, pool);
    const double error = packing_error(t, m);
    RecordProperty("relative_rms_error_" + std::to_string(rows), std::to_string(error));
    EXPECT_LE(error, allowed_error(GetParam())) << "rows " << rows;
    EXPECT_EQ(error > 0, allowed_error(GetParam()) > 0) << "the header says otherwise";
  }
}

TEST(Packing, Q3KTakesTheNegativeScaleWhereACodeReaches128) {
  Tensor t = random_tensor(TensorType::kQ3_K, 1, 256, 9);
  for (std::size_t i = 0; i < 32; ++i) t.data[i] = std::byte{0};    // every weight minus 4 ...
  for (std::size_t i = 32; i < 96; ++i) t.data[i] = std::byte{0};   // ... and no lower bits: q = -4
  for (std::size_t i = 96; i < 108; ++i) t.data[i] = std::byte{0};  // every scale -32: products 128
  ThreadPool pool(1);
  EXPECT_EQ(packing_error(t, packed(t.view, pool)), 0);
}

TEST(Packing, Mxfp4WithAScaleBeyondF16BecomesBf16) {
  ThreadPool pool(1);
  for (const int exponent : {103, 104, 143, 144, 60, 200}) {
    Tensor t = random_tensor(TensorType::kMXFP4, 3, 64, 11);
    t.data[block_bytes(TensorType::kMXFP4)] = static_cast<std::byte>(exponent);
    const Matrix m = packed(t.view, pool);
    const bool fits = exponent >= 104 && exponent <= 143;  // 2^(exponent - 128) from 2^-24 to 2^15
    EXPECT_EQ(m.format(), fits ? WeightFormat::kW8 : WeightFormat::kBF16) << exponent;
    EXPECT_EQ(packing_error(t, m), 0) << exponent;
  }
}

TEST(Packing, RowsPastTheLastAreZero) {
  ThreadPool pool(1);
  const Tensor t = random_tensor(TensorType::kQ8_0, 5, 64, 13);
  const Matrix m = packed(t.view, pool);
  EXPECT_EQ(m.bytes(), panel_bytes(WeightFormat::kW8, 64));
  for (int row = 5; row < 16; ++row)
    for (int col = 0; col < 64; ++col) EXPECT_EQ(packed_weight(m, row, col), 0);
}

}  // namespace
}  // namespace lamina
