// SPDX-License-Identifier: Apache-2.0
// Every instruction set's attention kernels against double-precision sums over decoded rows, at odd sizes, with NaN
// bytes in the unused rows of tiles.
#include "kernels/attend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kv/bits/encode.h"
#include "stored_rows.h"

namespace lamina {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<Isa> present() {
  std::vector<Isa> isas;
  for (const Isa isa : kAllIsas)
    if (supported(isa)) isas.push_back(isa);
  return isas;
}

// Rows [first, first + n) of a run of keys or values, decoded as well.
struct Rows {
  Rows(RowKind kind, Format format, int head_dim, int first_row, int n, std::uint32_t seed, std::uint32_t wider = 0)
      : arena(code_tile_bytes(format, head_dim), 64), d(head_dim), first(first_row), last(first_row + n) {
    std::mt19937 random(seed);
    const RowPlanes planes{arena.memory(),
                           kind,
                           format,
                           d,
                           arena.plane(code_tile_bytes(format, d), 0, static_cast<std::uint32_t>(last)),
                           arena.scales(format, d, 0, static_cast<std::uint32_t>(last), wider)};
    const std::vector<float> x = random_floats(random, static_cast<std::size_t>(n) * static_cast<std::size_t>(d));
    write_rows(planes, static_cast<std::uint32_t>(first), x.data(), static_cast<std::size_t>(d), n);
    decoded.resize(x.size());
    for (int i = 0; i < n; ++i) read_row(planes, static_cast<std::uint32_t>(first + i), decoded.data() + i * d);
    for (std::uint32_t t = 0; static_cast<int>(t) * kTileRows < last; ++t) {
      codes.push_back(planes.codes.tile(arena.memory(), t));
      if (has_scales(format)) scales.push_back(planes.scales.tile(arena.memory(), t));
    }
  }
  TileRun run() const { return {codes.data(), scales.data(), first, last, padded_dim(d)}; }
  double at(int row, int c) const { return decoded[area(row - first, d) + static_cast<std::size_t>(c)]; }
  int padded() const { return static_cast<int>(codes.size()) * kTileRows; }

  BlockArena arena;
  int d, first, last;
  std::vector<float> decoded;
  std::vector<const std::byte*> codes, scales;
};

// The last bit depends on whether a machine rounds once.
void expect_unpacked(double found, double want, Format format) {
  ASSERT_NEAR(found, want, has_minima(format) ? 1e-6 : 0);
}

struct Size {
  int head_dim, queries, first, rows;
};
constexpr Size kSizes[] = {{8, 1, 0, 1},   {16, 2, 3, 12},  {20, 3, 0, 16},  {64, 1, 5, 28},  {64, 3, 0, 33},
                           {80, 4, 15, 1}, {128, 5, 1, 95}, {64, 9, 0, 200}, {256, 4, 7, 70}, {40, 16, 2, 64}};

std::vector<float> padded_queries(const Size& size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> q(area(size.queries, padded_dim(size.head_dim)), 0.0F);
  for (int i = 0; i < size.queries; ++i) {
    const std::vector<float> x = random_floats(random, static_cast<std::size_t>(size.head_dim));
    std::copy(x.begin(), x.end(), q.begin() + i * padded_dim(size.head_dim));
  }
  return q;
}

// Codes with a minimum reach as far from it as the whole range, symmetric ones half as far.
double score_tolerance(Format format) { return has_minima(format) ? 4e-3 : has_scales(format) ? 2e-3 : 5e-5; }
double weight_tolerance(Format format) { return has_minima(format) ? 2e-4 : has_scales(format) ? 1e-4 : 1e-6; }

// Integer formats: a query's channel is off by up to max|q| / 65534, a score by the random sum of such errors.
TEST(Attend, ScoresOfEveryFormat) {
  for (const Isa isa : present())
    for (const Format format : formats_of(RowKind::kKey))
      for (const Size& size : kSizes) {
        const Rows rows(RowKind::kKey, format, size.head_dim, size.first, size.rows, 7, size.queries % 3);
        const std::vector<float> q = padded_queries(size, 8);
        const std::size_t stride = static_cast<std::size_t>(rows.padded()) + 16;
        std::vector<float> scores(stride * static_cast<std::size_t>(size.queries), 0.5F);
        attend_kernels(isa).score[static_cast<int>(format)](rows.run(), q.data(), size.queries, scores.data(), stride);
        for (int i = 0; i < size.queries; ++i) {
          for (int r = rows.first; r < rows.last; ++r) {
            double want = 0;
            for (int c = 0; c < size.head_dim; ++c) want += q[i * padded_dim(size.head_dim) + c] * rows.at(r, c);
            ASSERT_NEAR(scores[i * stride + r], want, score_tolerance(format))
                << name(isa) << " format " << static_cast<int>(format) << " d " << size.head_dim << " row " << r;
          }
          EXPECT_EQ(scores[i * stride + rows.padded()], 0.5F);  // nothing beyond the run's tiles
        }
      }
}

// Integer formats: a weight is off by up to max / 32258 of the largest in its 64 rows.
TEST(Attend, MixturesOfEveryFormat) {
  for (const Isa isa : present())
    for (const Format format : formats_of(RowKind::kValue))
      for (const Size& size : kSizes) {
        const Rows rows(RowKind::kValue, format, size.head_dim, size.first, size.rows, 9);
        const auto stride = static_cast<std::size_t>(rows.padded());
        std::mt19937 random(10);
        std::vector<float> w = random_floats(random, static_cast<std::size_t>(size.queries) * stride);
        for (float& x : w) x = x < -1 ? 0 : std::fabs(x);
        const int dim = padded_dim(size.head_dim);
        std::vector<float> out(area(size.queries, dim), 0.25F);
        attend_kernels(isa).mix[static_cast<int>(format)](rows.run(), w.data(), stride, size.queries, out.data());
        for (int i = 0; i < size.queries; ++i)
          for (int c = 0; c < size.head_dim; ++c) {
            double want = 0.25, total = 0;
            for (int r = rows.first; r < rows.last; ++r) want += w[i * stride + r] * rows.at(r, c);
            for (int r = rows.first; r < rows.last; ++r) total += w[i * stride + r];
            ASSERT_NEAR(out[i * dim + c], want, weight_tolerance(format) * (total + 0.1))
                << name(isa) << " format " << static_cast<int>(format) << " d " << size.head_dim << " channel " << c;
          }
      }
}

TEST(Attend, VanishingWeightsStayFinite) {
  for (const Isa isa : present())
    for (const Format format : formats_of(RowKind::kValue)) {
      const Rows rows(RowKind::kValue, format, 64, 0, 20, 11);
      for (const float weight : {0.0F, 1e-38F, 1e-30F}) {
        const std::vector<float> w(32, weight);
        std::vector<float> out(64, 0.0F);
        attend_kernels(isa).mix[static_cast<int>(format)](rows.run(), w.data(), 32, 1, out.data());
        for (const float x : out) ASSERT_NEAR(x, 0, 1e-27);
      }
    }
}

TEST(Attend, UnpackedKeysAreTheDecodedRows) {
  for (const Isa isa : present())
    for (const Format format : formats_of(RowKind::kKey))
      for (const Size& size : kSizes) {
        const Rows k(RowKind::kKey, format, size.head_dim, size.first, size.rows, 12, size.queries % 3);
        const int dim = padded_dim(size.head_dim);
        std::vector<float> keys(area(k.padded(), dim));
        attend_kernels(isa).unpack_keys[static_cast<int>(format)](k.run(), keys.data());
        for (int r = size.first; r < size.first + size.rows; ++r)
          for (int c = 0; c < dim; ++c) {
            const float key = keys[area(r / 16 * dim + c, 16) + static_cast<std::size_t>(r % 16)];
            if (c >= size.head_dim && has_minima(format))
              ASSERT_TRUE(std::isfinite(key));  // meets channels of the query that are zero
            else
              expect_unpacked(key, c < size.head_dim ? k.at(r, c) : 0, format);
          }
      }
}

TEST(Attend, UnpackedValuesAreTheDecodedRows) {
  for (const Isa isa : present())
    for (const Format format : formats_of(RowKind::kValue))
      for (const Size& size : kSizes) {
        const Rows v(RowKind::kValue, format, size.head_dim, size.first, size.rows, 13);
        const int dim = padded_dim(size.head_dim);
        std::vector<float> values(area(v.padded(), dim));
        attend_kernels(isa).unpack_values[static_cast<int>(format)](v.run(), values.data());
        for (int r = 0; r < v.padded(); ++r)
          for (int c = 0; c < size.head_dim; ++c) {
            const bool row = r >= size.first && r < size.first + size.rows;
            expect_unpacked(values[area(r, dim) + static_cast<std::size_t>(c)], row ? v.at(r, c) : 0, format);
          }
      }
}

TEST(Attend, ProductsOfOddShapes) {
  std::mt19937 random(14);
  for (const Isa isa : present())
    for (const int rows : {1, 2, 5, 6, 13})
      for (const int panels : {1, 3, 4, 9})
        for (const bool accumulate : {false, true}) {
          const int depth = 37, n = panels * 16;
          const std::vector<float> a = random_floats(random, area(rows, 40));
          const std::vector<float> b = random_floats(random, area(depth, n));
          std::vector<float> c = random_floats(random, area(rows, n));
          const std::vector<float> before = c;
          attend_kernels(isa).product({a.data(), b.data(), c.data(), rows, panels, depth, 40, 16,
                                       static_cast<std::size_t>(n), static_cast<std::size_t>(n), accumulate});
          for (int i = 0; i < rows; ++i)
            for (int j = 0; j < n; ++j) {
              double want = accumulate ? before[i * n + j] : 0;
              for (int k = 0; k < depth; ++k) want += double{a[i * 40 + k]} * b[k * n + j];
              ASSERT_NEAR(c[i * n + j], want, 2e-5) << name(isa);
            }
        }
}

TEST(Attend, FoldIsAnOnlineSoftmax) {
  std::mt19937 random(15);
  for (const Isa isa : present()) {
    const int n = 48, dim = 32;
    std::vector<float> scores = random_floats(random, 3 * n);
    std::fill(scores.begin() + n, scores.begin() + 2 * n, -kInf);  // row 1 sees nothing
    scores[5] = -kInf;
    const std::vector<float> before = scores;
    std::vector<float> max{1.5F, -kInf, -kInf}, sum{2, 0, 0}, out(3 * dim, 0.0F);
    std::fill(out.begin(), out.begin() + dim, 3.0F);
    attend_kernels(isa).fold({scores.data(), n, 3, n, max.data(), sum.data(), out.data(), dim});
    for (const int row : {0, 2}) {
      const float old_max = row == 0 ? 1.5F : -kInf;
      const float top = std::max(old_max, *std::max_element(before.begin() + row * n, before.begin() + (row + 1) * n));
      double total = row == 0 ? 2 * std::exp(old_max - top) : 0;
      for (int i = row * n; i < (row + 1) * n; ++i) {
        ASSERT_NEAR(scores[i], std::exp(before[i] - top), 1e-6);
        total += std::exp(double{before[i]} - top);
      }
      EXPECT_EQ(max[row], top);
      EXPECT_NEAR(sum[row], total, 1e-5);
      EXPECT_NEAR(out[row * dim + 17], row == 0 ? 3 * std::exp(old_max - top) : 0, 1e-6);
    }
    EXPECT_EQ(scores[5], 0);
    EXPECT_EQ(max[1], -kInf);
    EXPECT_EQ(sum[1], 0);
    EXPECT_EQ(scores[n + 3], 0);
  }
}

TEST(Attend, MergeIsTheFoldOfAllParts) {
  constexpr int kDim = 48, kStride = 2 + kDim;
  std::mt19937 random(16);
  for (const Isa isa : present())
    for (const int parts : {1, 3, 16, 17, 40}) {
      std::vector<float> x = random_floats(random, area(parts, kStride));  // of each part: max, sum, out[kDim]
      for (int p = 0; p < parts; ++p) x[p * kStride + 1] = std::fabs(x[p * kStride + 1]) + 0.1F;
      if (parts == 17) x[2 * kStride] = -kInf, x[2 * kStride + 1] = 0;  // sees nothing
      double max = -kInf, sum = 0;
      for (int p = 0; p < parts; ++p) max = std::max(max, double{x[p * kStride]});
      std::vector<double> want(kDim, 0.0);
      for (int p = 0; p < parts; ++p) {
        const double weight = std::exp(x[p * kStride] - max);
        sum += weight * x[p * kStride + 1];
        for (int c = 0; c < kDim; ++c) want[c] += weight * x[p * kStride + 2 + c];
      }
      std::vector<float> out(kDim, 7.0F);
      const Merged merged{.max = x.data(),
                          .sum = x.data() + 1,
                          .out = x.data() + 2,
                          .stride = kStride,
                          .parts = static_cast<std::size_t>(parts),
                          .to = out.data(),
                          .dim = kDim};
      EXPECT_NEAR(attend_kernels(isa).merge(merged), max + std::log(sum), 1e-5) << name(isa) << " " << parts;
      for (int c = 0; c < kDim; ++c) ASSERT_NEAR(out[c], want[c] / sum, 1e-5) << name(isa) << " " << parts << " " << c;
      for (int p = 0; p < parts; ++p) x[p * kStride] = -kInf;
      EXPECT_EQ(attend_kernels(isa).merge(merged), -kInf);
      EXPECT_EQ(out, std::vector<float>(kDim, 0.0F));
    }
}

TEST(Attend, AddScaled) {
  std::mt19937 random(26);
  for (const Isa isa : present())
    for (const int n : {16, 48, 512}) {
      const std::vector<float> x = random_floats(random, static_cast<std::size_t>(n)),
                               before = random_floats(random, x.size());
      std::vector<float> to = before;
      attend_kernels(isa).add_scaled(x.data(), 0.37F, n, to.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(to[i], before[i] + double{0.37F} * x[i], 1e-6);
    }
}

TEST(Attend, WeighAddsWeightsToSums) {
  constexpr int kRows = 5, kStride = 96;
  std::mt19937 random(17);
  for (const Isa isa : present())
    for (const bool most : {false, true})
      for (const int n : {16, 48, 80})
        for (const int step : {1, 2}) {
          std::vector<float> scores = random_floats(random, area(kRows, kStride)),
                             sums = random_floats(random, kStride);
          for (float& sum : sums) sum = std::fabs(sum);
          for (const int i : {0, 7, n - 1})
            for (int row = 0; row < kRows; ++row) scores[row * kStride + i] = -kInf;  // nobody sees these
          const std::vector<float> lse = {2.5F, -1, kInf, 0, 1}, old = sums;
          const std::vector<std::int32_t> far = {0, n, 5, 17, 3};
          std::vector<float> far_sums(kStride, 0.5F);
          attend_kernels(isa).weigh({.scores = scores.data(),
                                     .stride = kStride,
                                     .rows = kRows,
                                     .step = step,
                                     .n = n,
                                     .lse = lse.data(),
                                     .sums = sums.data(),
                                     .most = most,
                                     .far = far.data(),
                                     .far_sums = far_sums.data()});
          for (int i = 0; i < kStride; ++i) {
            double want = old[i], want_far = 0.5;
            for (int row = 0; row < kRows && i < n; row += step) {
              const double weight = std::exp(double{scores[row * kStride + i]} - lse[row]);
              want = most ? std::max(want, weight) : want + weight;
              if (i < far[row]) want_far += weight;
            }
            EXPECT_NEAR(sums[i], want, 1e-6 * (1 + want))
                << name(isa) << " n " << n << " step " << step << " column " << i;
            EXPECT_NEAR(far_sums[i], want_far, 1e-6 * (1 + want_far))
                << name(isa) << " n " << n << " step " << step << " column " << i;
          }
          for (const int i : {0, 7, n - 1}) EXPECT_EQ(sums[i], old[i]);
          std::vector<float> again = old;
          attend_kernels(isa).weigh({.scores = scores.data(),
                                     .stride = kStride,
                                     .rows = kRows,
                                     .step = step,
                                     .n = n,
                                     .lse = lse.data(),
                                     .sums = again.data(),
                                     .most = most});
          EXPECT_EQ(again, sums);
        }
}

TEST(Attend, RowKernelsAgreeWithScalar) {
  std::mt19937 random(16);
  std::vector<float> x = random_floats(random, 112);
  x[1] = 1e9F, x[40] = 0, x[100] = -1e-7F;
  const AttendKernels& scalar = attend_kernels(Isa::kScalar);
  for (const Isa isa : present()) {
    const AttendKernels& kernels = attend_kernels(isa);
    std::vector<std::uint16_t> a(112), b(112);
    std::vector<float> c(112), d(112);
    kernels.to_f16(x.data(), 112, a.data()), scalar.to_f16(x.data(), 112, b.data());
    EXPECT_EQ(a, b);
    kernels.from_f16(a.data(), 112, c.data()), scalar.from_f16(a.data(), 112, d.data());
    EXPECT_EQ(c, d);
    EXPECT_EQ(c[1], 65504.0F);
    kernels.to_bf16(x.data(), 112, a.data()), scalar.to_bf16(x.data(), 112, b.data());
    EXPECT_EQ(a, b);
    std::vector<std::int8_t> codes(112), want(112);
    std::vector<std::uint16_t> scales(4), want_scales(4);
    for (const int limit : {7, 127}) {
      kernels.quantise(x.data(), 112, limit, codes.data(), scales.data());
      scalar.quantise(x.data(), 112, limit, want.data(), want_scales.data());
      EXPECT_EQ(codes, want) << name(isa);
      EXPECT_EQ(scales, want_scales);
    }
  }
}

}  // namespace
}  // namespace lamina
