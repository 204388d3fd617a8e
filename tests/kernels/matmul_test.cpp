// SPDX-License-Identifier: Apache-2.0
// Products of packed weights: every instruction set against a product in double precision over the de-quantised
// weights, and bitwise equality over batch sizes, tilings and threads.
#include <gtest/gtest.h>

#include "packed.h"

namespace lamina {
namespace {

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
      const Matrix w = packed(t.view, pool);
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
  const Matrix w = packed(t.view, one);
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
  const Matrix wa = packed(a.view, pool);
  const Matrix wb = packed(b.view, pool);
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
    const Matrix w = packed(t.view, pool);
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
    const Matrix w = packed(t.view, pool);
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
  for (const float y : multiply(packed(t.view, pool), x.data(), all(Inputs::kFine, 1), pool)) EXPECT_EQ(y, 0);
}

}  // namespace
}  // namespace lamina
