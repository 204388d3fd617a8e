// SPDX-License-Identifier: Apache-2.0
#include "kv/bits/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "stored_rows.h"

namespace lamina {
namespace {

constexpr RowKind kKinds[] = {RowKind::kKey, RowKind::kValue};

struct Planes {
  Planes(Format format, RowKind kind, int head_dim, std::uint32_t rows)
      : arena(2 * code_tile_bytes(format, head_dim), 64),
        planes{arena.memory(),
               kind,
               format,
               head_dim,
               arena.plane(code_tile_bytes(format, head_dim), 0, rows),
               arena.scales(format, head_dim, 0, rows)} {}
  std::vector<float> read(std::uint32_t row) const {
    std::vector<float> x(static_cast<std::size_t>(planes.head_dim));
    read_row(planes, row, x.data());
    return x;
  }
  BlockArena arena;
  RowPlanes planes;
};

// The most that a decoded channel may differ: rounding of the number, or half a scale, whose f16 rounding may cost the
// largest code another 2^-11 of itself.
double bound(Format format, const float* row, int head_dim, int c) {
  if (has_minima(format)) return 0.6 * 8.0 / ((1 << bits(format)) - 1);  // the numbers are within +-4
  if (format == Format::kF32) return 0;
  if (format == Format::kF16) return std::max(std::fabs(row[c]) * 0x1p-11, 0x1p-25);
  if (format == Format::kBF16) return std::fabs(row[c]) * 0x1p-8;
  float largest = 0;
  const int group = c / kScaleGroup * kScaleGroup;
  for (int i = group; i < std::min(group + kScaleGroup, head_dim); ++i) largest = std::max(largest, std::fabs(row[i]));
  const double scale = largest / (format == Format::kInt8 ? 127 : 7);
  return scale / 2 + largest * 0x1p-10;
}

TEST(Encode, RoundTripsWithinHalfAScale) {
  std::mt19937 random(1);
  for (const RowKind kind : kKinds)
    for (const Format format : formats_of(kind))
      for (const int d : {8, 16, 20, 33, 64, 80, 128, 256}) {
        const std::uint32_t n = 37, first = 5;
        Planes p(format, kind, d, first + n);
        const std::vector<float> rows = random_floats(random, n * static_cast<std::size_t>(d));
        write_rows(p.planes, first, rows.data(), static_cast<std::size_t>(d), n);
        for (std::uint32_t r = 0; r < n; ++r) {
          const std::vector<float> x = p.read(first + r);
          for (int c = 0; c < d; ++c) {
            const float* row = rows.data() + r * static_cast<std::size_t>(d);
            ASSERT_LE(std::fabs(double{x[c]} - row[c]), bound(format, row, d, c))
                << static_cast<int>(format) << " d " << d << " row " << r << " channel " << c;
          }
        }
      }
}

// Spelled out from format.h, byte by byte, for one row.
TEST(Encode, TilesAreLaidOutAsTheFormatSays) {
  const int d = 40, row = 22, r = row % kTileRows, dim = padded_dim(d);
  std::mt19937 random(2);
  const std::vector<float> x = random_floats(random, d);
  for (const RowKind kind : kKinds) {
    const bool key = kind == RowKind::kKey;
    Planes f32(Format::kF32, kind, d, 32), i8(Format::kInt8, kind, d, 32), i4(Format::kInt4, kind, d, 32);
    for (const Planes* p : {&f32, &i8, &i4}) write_rows(p->planes, row, x.data(), d, 1);
    const auto* floats = reinterpret_cast<const float*>(f32.planes.codes.tile(f32.arena.memory(), 1));
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(i8.planes.codes.tile(i8.arena.memory(), 1));
    const auto* nibbles = reinterpret_cast<const std::uint8_t*>(i4.planes.codes.tile(i4.arena.memory(), 1));
    const auto* scales8 = reinterpret_cast<const std::uint16_t*>(i8.planes.scales.tile(i8.arena.memory(), 1));
    const auto* scales4 = reinterpret_cast<const std::uint16_t*>(i4.planes.scales.tile(i4.arena.memory(), 1));
    for (int c = 0; c < dim; ++c) {
      const float want = c < d ? x[c] : 0;
      EXPECT_EQ(floats[key ? c * 16 + r : r * dim + c], want);
      const int byte = bytes[key ? (c / 4 * 16 + r) * 4 + c % 4 : (r / 4 * dim + c) * 4 + r % 4];
      const int code8 = key ? byte - 128 : static_cast<std::int8_t>(byte);
      EXPECT_EQ(code8, std::nearbyint(want / f32_from_f16(scales8[c / 32 * 16 + r]))) << c;
      const int pair = nibbles[key ? (c / 8 * 16 + r) * 4 + c % 4 : (r / 8 * dim + c) * 4 + r % 4];
      const bool high = key ? c % 8 >= 4 : r % 8 >= 4;
      EXPECT_EQ((high ? pair >> 4 : pair & 15) - 8,
                std::clamp(std::nearbyint(want / f32_from_f16(scales4[c / 32 * 16 + r])), -7.0F, 7.0F));
    }
  }
}

TEST(Encode, OtherRowsOfATileStay) {
  std::mt19937 random(3);
  for (const RowKind kind : kKinds)
    for (const Format format : formats_of(kind)) {
      if (by_channel(format)) continue;
      Planes p(format, kind, 48, 32);
      const std::vector<float> rows = random_floats(random, 32 * 48), other = random_floats(random, 48);
      write_rows(p.planes, 0, rows.data(), 48, 32);
      const std::vector<float> before = p.read(12), after_it = p.read(14);
      write_rows(p.planes, 13, other.data(), 48, 1);
      EXPECT_EQ(p.read(12), before);
      EXPECT_EQ(p.read(14), after_it);
    }
}

TEST(Encode, CopyMovesARowBitForBit) {
  std::mt19937 random(4);
  for (const RowKind kind : kKinds)
    for (const Format format : formats_of(kind)) {
      if (by_channel(format)) continue;
      Planes a(format, kind, 80, 48), b(format, kind, 80, 48);
      const std::vector<float> rows = random_floats(random, 48 * 80);
      write_rows(a.planes, 0, rows.data(), 80, 48);
      write_rows(b.planes, 0, rows.data(), 80, 48);
      const std::vector<float> neighbour = b.read(6);
      for (const auto& [from, to] : {std::pair{19U, 7U}, {40U, 8U}, {3U, 31U}}) {
        copy_row(a.planes, from, b.planes, to);
        EXPECT_EQ(b.read(to), a.read(from));
      }
      EXPECT_EQ(b.read(6), neighbour);
      copy_row(a.planes, 1, a.planes, 2);  // within a run
      EXPECT_EQ(a.read(2), a.read(1));
    }
}

TEST(Encode, ZerosAndHugeValues) {
  for (const RowKind kind : kKinds)
    for (const Format format : formats_of(kind)) {
      if (has_minima(format)) continue;
      Planes p(format, kind, 64, 16);
      std::vector<float> row(64, 0.0F);
      write_rows(p.planes, 0, row.data(), 64, 1);
      EXPECT_EQ(p.read(0), row);
      row[3] = std::numeric_limits<float>::max(), row[40] = -1e30F, row[41] = 1;
      write_rows(p.planes, 1, row.data(), 64, 1);
      for (const float x : p.read(1)) EXPECT_TRUE(std::isfinite(x));
      EXPECT_GE(p.read(1)[3], 65504.0F);
      EXPECT_LE(p.read(1)[40], -65504.0F);
      // so small that the scale is zero, or not exact
      std::fill(row.begin(), row.end(), 1e-9F);
      row[0] = 3e-7F;
      write_rows(p.planes, 2, row.data(), 64, 1);
      for (int c = 0; c < 64; ++c) EXPECT_NEAR(p.read(2)[c], row[c], 4e-6);
    }
}

}  // namespace
}  // namespace lamina
