// SPDX-License-Identifier: Apache-2.0
// Rows and queries of prompts as bytes (kernels/attend.h: ByteRows) on every instruction set: codes against the numbers
// that they stand for, products against double precision over the same codes, and against the exact ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/attend.h"
#include "kv/bits/hadamard.h"

namespace lamina {
namespace {

struct Case {
  Isa isa;
  int head_dim, tiles, queries;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Isa isa : kAllIsas)
    for (const int head_dim : {16, 20, 64, 80, 128})
      for (const int tiles : {1, 3, 8})
        for (const int queries : {1, 6, 13}) all.push_back({isa, head_dim, tiles, queries});
  return all;
}

// Keys, values and queries of one head, with a channel and a row that stand out, and their bytes.
class Bytes : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().isa)) GTEST_SKIP();
    make(GetParam().isa);
  }

  void make(Isa isa) {
    kernels_ = &attend_kernels(isa);
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const auto numbers = [&](int rows) {
      std::vector<float> x(at(rows, 0));
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < head_dim_; ++c)
          x[at(r, c)] = normal(random) * (c == 3 ? 6.0F : 1.0F) * (r == 1 ? 9.0F : 1.0F);
      return x;
    };
    k_ = numbers(rows_), v_ = numbers(rows_), q_ = numbers(queries_);
    memory_ = AlignedBuffer(static_cast<std::size_t>(tiles_) * ByteRows::tile_bytes(dim_));
    bytes_ = {memory_.data(), tiles_, dim_, head_dim_ & -head_dim_};
    std::vector<float> columns(k_.size());  // [tile][dim][16]
    for (int r = 0; r < rows_; ++r)
      for (int c = 0; c < dim_; ++c)
        columns[at(r / 16 * 16, 0) + static_cast<std::size_t>(c * 16 + r % 16)] = k_[at(r, c)];
    kernels_->bytes_of_keys(columns.data(), bytes_);
    kernels_->bytes_of_values(v_.data(), bytes_);
    codes_.assign(q_.size(), 0);
    scales_.assign(static_cast<std::size_t>(queries_ * groups_), 0);
    offsets_.assign(scales_.size(), 0);
    queries_of_ = {queries_, dim_, bytes_.rotate, codes_.data(), scales_.data(), offsets_.data()};
    kernels_->bytes_of_queries(q_.data(), queries_of_);
  }

  std::size_t at(int row, int channel) const { return static_cast<std::size_t>(row * dim_ + channel); }
  double key(int row, int c) const {
    const auto code = std::to_integer<int>(bytes_.keys(row / 16)[c / 4 * 64 + row % 16 * 4 + c % 4]) - 128;
    return double{bytes_.key_scales(row / 16)[c / kByteGroup * 16 + row % 16]} * code;
  }
  double value(int row, int c) const {
    const auto code = static_cast<std::int8_t>(bytes_.values(row / 16)[(row % 16 / 4 * dim_ + c) * 4 + row % 4]);
    return double{bytes_.value_scales(row / 16)[c / kByteGroup * 16 + row % 16]} * code;
  }
  double query(int row, int c) const {
    return double{scales_[static_cast<std::size_t>(row * groups_ + c / kByteGroup)]} * codes_[at(row, c)];
  }
  double length(const std::vector<float>& x, int row) const {
    double sum = 0;
    for (int c = 0; c < dim_; ++c) sum += double{x[at(row, c)]} * x[at(row, c)];
    return std::sqrt(sum);
  }

  const int head_dim_ = GetParam().head_dim, dim_ = padded_dim(head_dim_), tiles_ = GetParam().tiles;
  const int rows_ = 16 * tiles_, queries_ = GetParam().queries, groups_ = byte_groups(dim_);
  const AttendKernels* kernels_ = nullptr;
  std::vector<float> k_, v_, q_;  // [row][dim]
  AlignedBuffer memory_;
  ByteRows bytes_;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::int32_t> offsets_;
  ByteQueries queries_of_;
};
INSTANTIATE_TEST_SUITE_P(All, Bytes, testing::ValuesIn(cases()), [](const auto& test) {
  const Case& c = test.param;
  return std::string(name(c.isa)) + "_d" + std::to_string(c.head_dim) + "_t" + std::to_string(c.tiles) + "_q" +
         std::to_string(c.queries);
});

TEST_P(Bytes, AreWithinHalfAStepOfTheTransformedNumbers) {
  for (int row = 0; row < rows_; ++row) {
    std::vector<float> turned(k_.begin() + static_cast<std::ptrdiff_t>(at(row, 0)),
                              k_.begin() + static_cast<std::ptrdiff_t>(at(row + 1, 0)));
    hadamard(turned.data(), head_dim_);  // ours lacks the factor
    const double factor = std::sqrt(double(bytes_.rotate));
    for (int c = 0; c < dim_; ++c) {
      const double step = bytes_.key_scales(row / 16)[c / kByteGroup * 16 + row % 16];
      ASSERT_NEAR(key(row, c), turned[static_cast<std::size_t>(c)] * factor, .501 * step) << row << " " << c;
      ASSERT_NEAR(value(row, c), v_[at(row, c)], .501 * bytes_.value_scales(row / 16)[c / kByteGroup * 16 + row % 16])
          << row << " " << c;
    }
  }
}

TEST_P(Bytes, ScoresAreTheDotProductsOfTheCodesAndCloseToTheExactOnes) {
  std::vector<float> scores(static_cast<std::size_t>(queries_ * rows_), -1);
  kernels_->score_bytes(bytes_, queries_of_, scores.data(), static_cast<std::size_t>(rows_));
  for (int i = 0; i < queries_; ++i)
    for (int row = 0; row < rows_; ++row) {
      double sum = 0, exact = 0;
      for (int c = 0; c < dim_; ++c) {
        sum += query(i, c) * key(row, c);
        exact += double{q_[at(i, c)]} * k_[at(row, c)];
      }
      const double size = length(q_, i) * length(k_, row), found = scores[static_cast<std::size_t>(i * rows_ + row)];
      ASSERT_NEAR(found, sum, 1e-6 * size) << i << " " << row;   // two roundings of float32
      ASSERT_NEAR(found, exact, .02 * size) << i << " " << row;  // two codes of 8 bits
    }
}

TEST_P(Bytes, MixturesAreTheSumsOfTheCodesInStepsOfTheLargestWeight) {
  std::mt19937 random(8);
  std::exponential_distribution<float> weight(1);
  std::vector<float> weights(static_cast<std::size_t>(queries_ * rows_));
  for (float& w : weights) w = weight(random) < .3F ? 0 : weight(random);
  std::vector<float> out(q_.size(), .5F);
  kernels_->mix_bytes(bytes_, weights.data(), static_cast<std::size_t>(rows_), queries_, out.data());
  for (int i = 0; i < queries_; ++i)
    for (int c = 0; c < dim_; ++c) {
      double exact = .5, bound = 1e-5;
      float most = 0;
      const auto scaled = [&](int row) {
        return weights[static_cast<std::size_t>(i * rows_ + row)] *
               bytes_.value_scales(row / 16)[c / kByteGroup * 16 + row % 16];
      };
      for (int row = 0; row < rows_; ++row) most = std::max(most, scaled(row));
      for (int row = 0; row < rows_; ++row) {
        const double w = weights[static_cast<std::size_t>(i * rows_ + row)], x = value(row, c);
        exact += w * x;
        // half a step of the weight times scale, of a code of up to 127
        const double scale = bytes_.value_scales(row / 16)[c / kByteGroup * 16 + row % 16];
        bound += .501 * most / 255 * (scale > 0 ? std::abs(x) / scale : 0);
      }
      ASSERT_NEAR(out[at(i, c)], exact, bound) << i << " " << c;
    }
}

TEST_P(Bytes, AreTheSameOnEveryInstructionSet) {
  const std::vector<std::byte> ours(memory_.data(), memory_.data() + memory_.size());
  const std::vector<std::int8_t> codes = codes_;
  make(Isa::kScalar);
  std::size_t differ = 0;
  for (int t = 0; t < tiles_; ++t)
    for (int i = 0; i < 32 * dim_; ++i)
      differ += ours[static_cast<std::size_t>(t) * ByteRows::tile_bytes(dim_) + static_cast<std::size_t>(i)] !=
                bytes_.keys(t)[i];
  // a transform that rounds otherwise may end on the other side of a half
  EXPECT_LE(differ, static_cast<std::size_t>(tiles_ * dim_) / 100);
  std::size_t others = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) others += codes[i] != codes_[i];
  EXPECT_LE(others, codes.size() / 100);
}

}  // namespace
}  // namespace lamina
