// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on rows of codes: mixtures from integer dot products on the values as they are stored. A
// weight times a scale becomes two unsigned digits, x = step (128 high + low).
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

constexpr int kWeightLimit = 128 * 128 - 1;
constexpr int kMixTiles = 8;  // tiles that share a step: their products are summed as integers
constexpr int kMixRows = kMixTiles * kTileRows;

struct WeightDigits {
  std::uint8_t high[kMixRows], low[kMixRows];  // in the order of store_digits
  float step;
  float sum;   // of all 128 high + low
  float bias;  // what minima add to every channel
};

// Lanes of the tile whose first row is `row` that lie in [first, last); the others zero.
static inline F32 inside(F32 x, int row, int first, int last) {
  if (row + kTileRows > last) x = first_n(x, last > row ? last - row : 0, zero());
  return row < first ? first_n(zero(), first - row < kTileRows ? first - row : kTileRows, x) : x;
}

// A number >= 0 for each row of up to kMixTiles tiles; zero for rows outside the run.
struct OfRows {
  F32 x[kMixTiles];
  float largest;
};
template <class Load>
static inline void take_rows(const TileRun& values, int tile, int tiles, Load load_tile, F32* x) {
  if (tile * kTileRows >= values.first && (tile + tiles) * kTileRows <= values.last) {
    for (int t = 0; t < tiles; ++t) x[t] = load_tile(t);
  } else {
    for (int t = 0; t < tiles; ++t) x[t] = inside(load_tile(t), (tile + t) * kTileRows, values.first, values.last);
  }
}
template <class Load>
static inline void take_rows(const TileRun& values, int tile, int tiles, Load load_tile, OfRows& out) {
  take_rows(values, tile, tiles, load_tile, out.x);
  F32 top = zero();
  for (int t = 0; t < tiles; ++t) top = max(top, out.x[t]);
  out.largest = hmax(top);
}

// The product of the largest weight and the largest scale is what the digits can express.
static inline void split_weights(const OfRows& weights, const OfRows& scales, int tiles, WeightDigits& out) {
  const float largest = weights.largest * scales.largest;
  const F32 factor = splat(largest > kTiny ? static_cast<float>(kWeightLimit) / largest : 0.0F);
  I32 sum = zero_i32();
  for (int t = 0; t < tiles; t += 4) {
    I32 x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] = t + i < tiles ? round_i32(weights.x[t + i] * factor * scales.x[t + i]) : zero_i32();
      sum = sum + x[i];
    }
    store_digits(out.high + t * kTileRows, out.low + t * kTileRows, x);
  }
  out.step = largest / static_cast<float>(kWeightLimit);
  out.sum = hsum(to_f32(sum));
}

// What the minima of the group's rows add.
static inline float mixed_minima(const F32* minima, int tiles, const OfRows& weights) {
  F32 sum = zero();
  for (int t = 0; t < tiles; ++t) sum = fma(weights.x[t], minima[t], sum);
  return hsum(sum);
}

// One vector of stored value codes: 16 channels of 4 rows, or of 8 or 16 in parts.
struct ValuesInt8 {
  static constexpr int kOffset = 0, kRows = 4, kParts = 1;
  static constexpr bool kMinima = false;
  static Bytes part(Bytes codes, int) { return codes; }
};
struct ValuesInt4 {
  static constexpr int kOffset = 8, kRows = 8, kParts = 2;
  static constexpr bool kMinima = false;
  static Bytes part(Bytes codes, int i) { return i == 0 ? low_nibbles(codes) : high_nibbles(codes); }
};
struct ValuesAsym4 : ValuesInt4 {
  static constexpr int kOffset = 0;
  static constexpr bool kMinima = true;
};
struct ValuesAsym2 : ValuesAsym4 {
  static constexpr int kRows = 16, kParts = 4;
  static Bytes part(Bytes codes, int i) { return pairs(codes, i); }
};

// `tiles` tiles into N vectors of channels from c on, for M outputs.
template <class Values, int M, int N>
static inline void mix_codes_group(const TileRun& values, int tile, int tiles, int c, const WeightDigits* w,
                                   Later& later, float* out) {
  I32 high[M][N], low[M][N];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) high[m][n] = zero_i32(), low[m][n] = zero_i32();
  for (int t = 0; t < tiles; ++t) {
    const std::byte* codes = values.codes[tile + t] + static_cast<std::ptrdiff_t>(c) * 4;
    const int digits = t / 4 * 4 * kTileRows + t % 4 * 4;
#pragma GCC unroll 4
    for (int r = 0; r < kTileRows; r += Values::kRows, codes += static_cast<std::ptrdiff_t>(values.dim) * 4) {
      Bytes stored[N];
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        later.ask();
        stored[n] = load_bytes(codes + 64 * n);
      }
#pragma GCC unroll 4
      for (int i = 0; i < Values::kParts; ++i)
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          const Bytes h = splat4(w[m].high + digits + 4 * (r + 4 * i));
          const Bytes l = splat4(w[m].low + digits + 4 * (r + 4 * i));
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) {
            const Bytes part = Values::part(stored[n], i);
            high[m][n] = dot4_small(high[m][n], h, part);
            low[m][n] = dot4_small(low[m][n], l, part);
          }
        }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      float* o = out + static_cast<std::ptrdiff_t>(m) * values.dim + c + 16 * n;
      const F32 sum = fma(to_f32(high[m][n]), splat(128.0F), to_f32(low[m][n])) - splat(Values::kOffset * w[m].sum);
      const F32 before = Values::kMinima ? load(o) + splat(w[m].bias) : load(o);
      store(o, fma(sum, splat(w[m].step), before));
    }
}

template <class Values>
static void mix_codes(const TileRun& values, const float* weights, std::size_t stride, int queries, float* out) {
  const int all = values.tiles();
  for (int tile = 0; tile < all; tile += kMixTiles) {
    const int tiles = all - tile < kMixTiles ? all - tile : kMixTiles;
    for_query_blocks(queries, [&]<int M>(int q) {
      OfRows w[M], scales;
      WeightDigits digits[M];
      for (int m = 0; m < M; ++m) {
        const float* from = weights + (q + m) * stride + tile * kTileRows;
        take_rows(
            values, tile, tiles, [&](int t) { return load(from + t * kTileRows); }, w[m]);
      }
      float* o = out + static_cast<std::ptrdiff_t>(q) * values.dim;
      Later later(values.codes + tile + values.ahead, kTileRows / Values::kRows * values.dim * 4);
      for (int g = 0; g * kScaleGroup < values.dim; ++g) {
        const auto load_group = [&](int t, int group) {
          return load_f16(reinterpret_cast<const std::uint16_t*>(values.scales[tile + t]) + group * kTileRows);
        };
        const auto load_scales = [&](int t) {
          if (g % 2 == 0) prefetch_scales<Values>(values.scales[tile + t + values.ahead], groups_of(values.dim), g);
          return load_group(t, g);
        };
        const auto load_minima = [&](int t) { return load_group(t, groups_of(values.dim) + g); };
        take_rows(values, tile, tiles, load_scales, scales);
        F32 minima[kMixTiles];
        if (Values::kMinima) take_rows(values, tile, tiles, load_minima, minima);
        for (int m = 0; m < M; ++m) {
          split_weights(w[m], scales, tiles, digits[m]);
          if (Values::kMinima) digits[m].bias = mixed_minima(minima, tiles, w[m]);
        }
        if (group_vectors(values.dim, g) == 2)
          mix_codes_group<Values, M, 2>(values, tile, tiles, g * kScaleGroup, digits, later, o);
        else
          mix_codes_group<Values, M, 1>(values, tile, tiles, g * kScaleGroup, digits, later, o);
      }
    });
  }
}

}  // namespace lamina::LAMINA_ISA
