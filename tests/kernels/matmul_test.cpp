// SPDX-License-Identifier: Apache-2.0
// Packed weights and their products: what packing loses, every instruction set against a product in double precision
// over the de-quantised weights, and bitwise equality over batch sizes, tilings and threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "model/dequant.h"
#include "model/matrix.h"
#include "model/pack.h"

namespace lamina {
namespace {

constexpr TensorType kAllTypes[] = {TensorType::kF32,  TensorType::kF16,    TensorType::kBF16, TensorType::kQ4_0,
                                    TensorType::kQ4_1, TensorType::kQ5_0,   TensorType::kQ5_1, TensorType::kQ8_0,
                                    TensorType::kQ2_K, TensorType::kQ3_K,   TensorType::kQ4_K, TensorType::kQ5_K,
                                    TensorType::kQ6_K, TensorType::kIQ4_NL, TensorType::kMXFP4};

// A tensor that owns its bytes.
struct Tensor {
  std::vector<std::byte> data;
  TensorView view;
};

void put_half(std::vector<std::byte>& data, std::size_t at, float value) {
  const std::uint16_t half = f16_from_f32(value);
  std::memcpy(&data[at], &half, 2);
}

// Where a block's f16 scale and minimum lie, -1 for none.
struct ScaleOffsets {
  int scale, min;
};
ScaleOffsets scale_offsets(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    case TensorType::kQ2_K:
      return {80, 82};
    case TensorType::kQ3_K:
      return {108, -1};
    case TensorType::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

// Random codes with scales of the size that real models have (d about 0.01, K types smaller).
Tensor random_tensor(TensorType type, std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.3F, 1.0F);
  Tensor t;
  const auto blocks = static_cast<std::size_t>(rows * cols / block_weights(type));
  const std::size_t bytes = block_bytes(type);
  t.data.resize(blocks * bytes);
  for (auto& b : t.data) b = static_cast<std::byte>(random() & 0xff);
  for (std::size_t i = 0; i < blocks; ++i) {
    const float value = uniform(random) * (random() % 2 == 0 ? 1.0F : -1.0F);
    if (type == TensorType::kF32) std::memcpy(&t.data[i * bytes], &value, 4);
    if (type == TensorType::kF16) put_half(t.data, i * bytes, value);
    if (type == TensorType::kBF16) {
      const std::uint16_t half = bf16_from_f32(value);
      std::memcpy(&t.data[i * bytes], &half, 2);
    }
    if (type == TensorType::kMXFP4) t.data[i * bytes] = static_cast<std::byte>(118 + random() % 6);
    if (block_weights(type) == 1 || type == TensorType::kMXFP4) continue;
    const auto [scale, min] = scale_offsets(type);
    const float size = block_weights(type) == 256 ? 0.001F : 0.02F;
    put_half(t.data, i * bytes + static_cast<std::size_t>(scale), size * std::abs(value));
    if (min >= 0) put_half(t.data, i * bytes + static_cast<std::size_t>(min), size * 6 * value);
  }
  t.view = {.name = "w", .type = type, .shape = {rows, cols}, .data = t.data};
  return t;
}

std::vector<float> dequantized(const TensorView& t) {
  std::vector<float> out(static_cast<std::size_t>(t.rows() * t.cols()));
  const auto cols = static_cast<std::size_t>(t.cols());
  const std::size_t bytes = t.data.size() / static_cast<std::size_t>(t.rows());
  for (std::size_t r = 0; r < static_cast<std::size_t>(t.rows()); ++r)
    dequantize(t.type, t.data.subspan(r * bytes, bytes), std::span(out).subspan(r * cols, cols));
  return out;
}

// The weights that a packed matrix stands for, read from its panels as kernels.h describes them.
float packed_weight(const Matrix& m, std::int64_t row, std::int64_t col) {
  const std::byte* panel = m.panels(static_cast<int>(row / kPanelRows), m.panels()).bytes;
  const auto lane = static_cast<std::size_t>(row % kPanelRows);
  const auto half = [](const std::byte* p) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, p, 2);
    return bits;
  };
  const std::byte* step =
      panel + static_cast<std::size_t>(is_integer(m.format()) ? col / kBlockCols : col) * step_bytes(m.format());
  const auto c = static_cast<std::size_t>(col % kBlockCols);
  switch (m.format()) {
    case WeightFormat::kF32: {
      float value = 0;
      std::memcpy(&value, step + 4 * lane, 4);
      return value;
    }
    case WeightFormat::kF16:
      return f32_from_f16(half(step + 2 * lane));
    case WeightFormat::kBF16:
      return f32_from_bf16(half(step + 2 * lane));
    case WeightFormat::kW8: {
      const int code = std::to_integer<int>(step[32 + c / 4 * 64 + lane * 4 + c % 4]) - 128;
      return f32_from_f16(half(step + 2 * lane)) * static_cast<float>(code);
    }
    case WeightFormat::kW4: {
      const int both = std::to_integer<int>(step[64 + c % 16 / 4 * 64 + lane * 4 + c % 4]);
      const int code = c < 16 ? both & 15 : both >> 4;
      return f32_from_f16(half(step + 2 * lane)) * static_cast<float>(code) + f32_from_f16(half(step + 32 + 2 * lane));
    }
  }
  return 0;
}

std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (auto& v : out) v = normal(random);
  return out;
}

// ---- packing --------------------------------------------------------------------------------------------------------

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
    const Matrix m = Matrix::pack(t.view, pool);
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
  EXPECT_EQ(packing_error(t, Matrix::pack(t.view, pool)), 0);
}

TEST(Packing, Mxfp4WithAScaleBeyondF16BecomesBf16) {
  ThreadPool pool(1);
  for (const int exponent : {103, 104, 143, 144, 60, 200}) {
    Tensor t = random_tensor(TensorType::kMXFP4, 3, 64, 11);
    t.data[block_bytes(TensorType::kMXFP4)] = static_cast<std::byte>(exponent);
    const Matrix m = Matrix::pack(t.view, pool);
    const bool fits = exponent >= 104 && exponent <= 143;  // 2^(exponent - 128) from 2^-24 to 2^15
    EXPECT_EQ(m.format(), fits ? WeightFormat::kW8 : WeightFormat::kBF16) << exponent;
    EXPECT_EQ(packing_error(t, m), 0) << exponent;
  }
}

TEST(Packing, RowsPastTheLastAreZero) {
  ThreadPool pool(1);
  const Tensor t = random_tensor(TensorType::kQ8_0, 5, 64, 13);
  const Matrix m = Matrix::pack(t.view, pool);
  EXPECT_EQ(m.bytes(), panel_bytes(WeightFormat::kW8, 64));
  for (int row = 5; row < 16; ++row)
    for (int col = 0; col < 64; ++col) EXPECT_EQ(packed_weight(m, row, col), 0);
}

// ---- products -------------------------------------------------------------------------------------------------------

struct Case {
  Isa isa;
  TensorType type;
};

std::vector<Case> product_cases() {  // one type for each packed format
  std::vector<Case> cases;
  for (const Isa isa : kAllIsas)
    for (const TensorType type :
         {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_1, TensorType::kQ8_0})
      cases.push_back({isa, type});
  return cases;
}

class Products : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().isa)) GTEST_SKIP() << name(GetParam().isa) << " is not supported here";
  }
  std::vector<float> multiply(const Matrix& w, const float* x, std::span<const Inputs> inputs, ThreadPool& pool) const {
    Activations input(kernels(GetParam().isa));
    input.set(x, inputs, static_cast<int>(w.cols()), pool);
    std::vector<float> y(inputs.size() * static_cast<std::size_t>(w.rows()));
    const Product product{.w = &w, .y = y.data(), .stride = w.rows()};
    matmul(pool, input, {&product, 1});
    return y;
  }
};
INSTANTIATE_TEST_SUITE_P(AllIsasAndFormats, Products, testing::ValuesIn(product_cases()), [](const auto& test) {
  return std::string(name(test.param.isa)) + "_" + std::string(name(test.param.type));
});

std::vector<Inputs> all(Inputs inputs, int rows) { return std::vector<Inputs>(static_cast<std::size_t>(rows), inputs); }

// What the integer input stands for: absmax / limit per 32 columns, nearest even. Of coarse rows the finer limit holds
// in blocks that stand out.
std::vector<double> quantized_input(const std::vector<float>& x, int cols, Inputs inputs) {
  std::vector<double> out(x.begin(), x.end());
  const auto largest = [&](std::size_t block) {
    float most = 0;
    for (std::size_t c = block; c < block + kBlockCols; ++c) most = std::max(most, std::fabs(x[c]));
    return most;
  };
  const auto width = static_cast<std::size_t>(cols);
  for (std::size_t row = 0; row < x.size(); row += width) {
    double squares = 0;
    for (std::size_t i = row; i < row + width; i += kBlockCols) squares += largest(i) * largest(i);
    const double usual = std::sqrt(squares * kBlockCols / cols);
    for (std::size_t i = row; i < row + width; i += kBlockCols) {
      const float most = largest(i);
      const float limit = inputs == Inputs::kFine || most > kStandsOut * usual ? kFineLimit : kCoarseLimit;
      for (std::size_t c = i; c < i + kBlockCols; ++c)
        out[c] = most > 0 ? std::nearbyint(x[c] * (limit / most)) * double{most / limit} : 0;
    }
  }
  return out;
}

// Errors are relative to the sum of magnitudes: float32 sums of some hundred terms stay well below 1e-6 of it.
void expect_product(const std::vector<float>& y, const std::vector<float>& w, const std::vector<double>& x, int rows,
                    int cols) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t input = i / static_cast<std::size_t>(rows);
    const std::size_t row = i % static_cast<std::size_t>(rows);
    double sum = 0;
    double size = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c) {
      const double term = w[row * static_cast<std::size_t>(cols) + c] * x[input * static_cast<std::size_t>(cols) + c];
      sum += term;
      size += std::abs(term);
    }
    ASSERT_NEAR(y[i], sum, 1e-6 * size) << "input " << input << ", row " << row << " of " << rows << ", cols " << cols;
  }
}

TEST_P(Products, EqualDoublePrecisionOverTheSameCodes) {
  ThreadPool pool(2);
  const bool is_float = block_weights(GetParam().type) == 1;
  for (const int cols : {20, 32, 96, 576, 1536})
    for (const int rows : {1, 15, 16, 17, 33, 100}) {
      if (!is_float && cols == 20) continue;
      const Tensor t = random_tensor(GetParam().type, rows, cols, static_cast<unsigned>(rows + cols));
      const Matrix w = Matrix::pack(t.view, pool);
      const auto weights = dequantized(t.view);
      for (const int inputs : {1, 2, 7}) {
        auto x = random_floats(static_cast<std::size_t>(inputs) * static_cast<std::size_t>(cols), 3);
        if (cols > 300) x[x.size() / 2] = 40, x.back() = -50;  // they stand out
        for (const Inputs kind : {Inputs::kFine, Inputs::kCoarse}) {
          const auto seen = is_float ? std::vector<double>(x.begin(), x.end()) : quantized_input(x, cols, kind);
          expect_product(multiply(w, x.data(), all(kind, inputs), pool), weights, seen, rows, cols);
        }
      }
    }
}

TEST_P(Products, ARowIsBitwiseTheSameInEveryBatchAndOnEveryThread) {
  ThreadPool one(1);
  ThreadPool three(3);
  constexpr int kRows = 83;
  constexpr int kCols = 576;
  constexpr int kMost = 61;
  const Tensor t = random_tensor(GetParam().type, kRows, kCols, 5);
  const Matrix w = Matrix::pack(t.view, one);
  auto x = random_floats(kMost * kCols, 6);
  for (std::size_t i = 100; i < x.size(); i += 777) x[i] *= 20;  // stands out, in tiles where others do not
  std::vector<float> alone;
  std::vector<Inputs> kinds;  // prompts beside decoded tokens: tiles of one kind and of both
  for (int i = 0; i < kMost; ++i) kinds.push_back(i < 20 || i % 5 == 0 ? Inputs::kCoarse : Inputs::kFine);
  for (int i = 0; i < kMost; ++i) {
    const auto y = multiply(w, x.data() + std::ptrdiff_t{i} * kCols, std::span(kinds).subspan(i, 1), one);
    alone.insert(alone.end(), y.begin(), y.end());
  }
  for (const int inputs : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, kMost})
    for (ThreadPool* pool : {&one, &three}) {
      const auto y = multiply(w, x.data(), std::span(kinds).first(inputs), *pool);
      ASSERT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0)
          << inputs << " inputs, " << pool->threads() << " threads";
    }
}

TEST_P(Products, SeveralOfOneInputWriteEachItsOwn) {
  ThreadPool pool(2);
  constexpr int kCols = 64;
  constexpr int kInputs = 5;
  const Tensor a = random_tensor(GetParam().type, 33, kCols, 21);
  const Tensor b = random_tensor(TensorType::kQ8_0, 7, kCols, 22);
  const Matrix wa = Matrix::pack(a.view, pool);
  const Matrix wb = Matrix::pack(b.view, pool);
  const auto x = random_floats(kInputs * kCols, 23);
  constexpr std::ptrdiff_t kStride = 50;  // both in one array, with a gap
  std::vector<float> y(kInputs * kStride, 7.0F);
  Activations input(kernels(GetParam().isa));
  const std::vector<Inputs> fine = all(Inputs::kFine, kInputs);
  input.set(x.data(), fine, kCols, pool);
  const Product products[] = {{&wa, y.data(), kStride}, {&wb, y.data() + 35, kStride}};
  matmul(pool, input, products);
  const auto expected_a = multiply(wa, x.data(), fine, pool);
  const auto expected_b = multiply(wb, x.data(), fine, pool);
  for (std::size_t i = 0; i < kInputs; ++i)
    for (std::size_t j = 0; j < kStride; ++j) {
      const float expected = j < 33 ? expected_a[i * 33 + j] : j >= 35 && j < 42 ? expected_b[i * 7 + j - 35] : 7.0F;
      ASSERT_EQ(y[i * kStride + j], expected) << i << " " << j;
    }
}

TEST(Products, Avx2AndAvx512AgreeToTheBit) {
  if (!supported(Isa::kAvx512)) GTEST_SKIP();
  ThreadPool pool(2);
  for (const TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_1, TensorType::kQ8_0}) {
    const Tensor t = random_tensor(type, 50, 96, 31);
    const Matrix w = Matrix::pack(t.view, pool);
    const auto x = random_floats(9 * 96, 32);
    std::vector<float> y[4];  // fine and coarse, by both
    for (int i = 0; i < 4; ++i) {
      Activations input(kernels(i % 2 == 0 ? Isa::kAvx2 : Isa::kAvx512));
      const std::vector<Inputs> inputs = all(i < 2 ? Inputs::kFine : Inputs::kCoarse, 9);
      input.set(x.data(), inputs, 96, pool);
      y[i].resize(9 * 50);
      const Product product{&w, y[i].data(), 50};
      matmul(pool, input, {&product, 1});
    }
    EXPECT_EQ(y[0], y[1]) << name(type);
    EXPECT_EQ(y[2], y[3]) << name(type);
  }
}

// Codes and inputs at their extremes: 255 * -127 four times over must not saturate in any step.
TEST_P(Products, ExtremeCodesDoNotSaturate) {
  ThreadPool pool(1);
  for (const int byte : {0, 128, 129, 127, 255}) {  // Q8_0: 0, -128, -127, 127, -1; Q4_1: both nibbles 0, 8, ..., 15
    Tensor t = random_tensor(GetParam().type, 16, 64, 41);
    const std::size_t bytes = block_bytes(GetParam().type);
    const std::size_t scales = GetParam().type == TensorType::kQ4_1 ? 4 : 2;
    for (std::size_t i = 0; i < t.data.size() && bytes > 4; ++i)
      if (i % bytes >= scales) t.data[i] = static_cast<std::byte>(byte);
    const Matrix w = Matrix::pack(t.view, pool);
    for (const float sign : {1.0F, -1.0F}) {
      const std::vector<float> x(64, sign * 3.0F);
      for (const Inputs kind : {Inputs::kFine, Inputs::kCoarse}) {
        const auto seen =
            is_integer(w.format()) ? quantized_input(x, 64, kind) : std::vector<double>(x.begin(), x.end());
        expect_product(multiply(w, x.data(), all(kind, 1), pool), dequantized(t.view), seen, 16, 64);
      }
    }
  }
}

TEST_P(Products, AnInputOfZerosGivesZeros) {
  ThreadPool pool(1);
  const Tensor t = random_tensor(GetParam().type, 16, 64, 43);
  const std::vector<float> x(64, 0.0F);
  for (const float y : multiply(Matrix::pack(t.view, pool), x.data(), all(Inputs::kFine, 1), pool)) EXPECT_EQ(y, 0);
}

}  // namespace
}  // namespace lamina
