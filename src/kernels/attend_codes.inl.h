// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on int8 and int4 rows: integer dot products on the codes as they are stored.
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

// ---- integer keys: the query becomes two signed digits, x = step (254 high + low)

constexpr int kQueryBase = 254;
constexpr int kQuadsOfGroup = kScaleGroup / 4;
constexpr int kMaxGroups = kMaxHeadDim / kScaleGroup;

constexpr float kTiny = 1e-30F;  // smaller numbers count as zero: their inverse times 2^15 would overflow

struct QueryDigits {
  std::int8_t high[kMaxHeadDim], low[kMaxHeadDim];
  float step[kMaxGroups];                                        // by group of channels
  std::int32_t high_offset[kMaxGroups], low_offset[kMaxGroups];  // what the offset of the stored codes adds, negated
};

static inline int group_vectors(int dim, int group) { return dim - group * kScaleGroup >= kScaleGroup ? 2 : 1; }

// code_offset: what a stored key code has been raised by.
static inline void split_query(const float* q, int dim, int code_offset, QueryDigits& out) {
  for (int g = 0; g * kScaleGroup < dim; ++g) {
    const int vectors = group_vectors(dim, g);
    F32 largest = zero();
    for (int n = 0; n < vectors; ++n) largest = max(largest, abs(load(q + g * kScaleGroup + 16 * n)));
    const float top = hmax(largest);
    const F32 inverse = splat(top > kTiny ? 127.0F * kQueryBase / top : 0.0F);
    F32 high_sum = zero(), low_sum = zero();
    for (int n = 0; n < vectors; ++n) {
      const int c = g * kScaleGroup + 16 * n;
      const F32 x = load(q + c) * inverse;
      const I32 high = round_i32(x * splat(1.0F / kQueryBase));
      const I32 low = round_i32(fma(to_f32(high), splat(-kQueryBase), x));
      store_i8(out.high + c, high);
      store_i8(out.low + c, low);
      high_sum = high_sum + to_f32(high);
      low_sum = low_sum + to_f32(low);
    }
    out.step[g] = top / (127.0F * kQueryBase);
    out.high_offset[g] = -code_offset * static_cast<std::int32_t>(hsum(high_sum));
    out.low_offset[g] = -code_offset * static_cast<std::int32_t>(hsum(low_sum));
  }
}

// One vector of stored key codes (16 rows of 4 channels, or of 8 in two halves) into the M queries' sums.
struct KeysInt8 {
  static constexpr int kOffset = 128, kChannels = 4, kParts = 1;  // of one 64-byte vector
  static Bytes part(Bytes codes, int) { return codes; }
  static I32 dot(I32 acc, Bytes codes, Bytes digits) { return dot4(acc, codes, digits); }
};
struct KeysInt4 {
  static constexpr int kOffset = 8, kChannels = 8, kParts = 2;
  static Bytes part(Bytes codes, int i) { return i == 0 ? low_nibbles(codes) : high_nibbles(codes); }
  static I32 dot(I32 acc, Bytes codes, Bytes digits) { return dot4_small(acc, codes, digits); }
};

// GCC 12 copies all sums in a rolled loop: unrolling took 26 to 20 ns a tile (64 channels, 3 queries, Zen 5). With
// AVX2 it costs a third instead.
constexpr int kGroupUnroll = kRegisters >= 32 ? 8 : 1;

// The N vectors of channels of one group, times their scales.
template <class Keys, int M, int N>
static inline void score_group(const std::byte* codes, const std::byte* scales, int group, const QueryDigits* q,
                               F32* total) {
  I32 high[M], low[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) high[m] = splat_i32(q[m].high_offset[group]), low[m] = splat_i32(q[m].low_offset[group]);
  const int first = group * kScaleGroup;
  codes += static_cast<std::ptrdiff_t>(first / Keys::kChannels) * 64;
#pragma GCC unroll kGroupUnroll
  for (int c = 0; c < 16 * N; c += Keys::kChannels) {
    const Bytes stored = load_bytes(codes + static_cast<std::ptrdiff_t>(c / Keys::kChannels) * 64);
#pragma GCC unroll 2
    for (int i = 0; i < Keys::kParts; ++i) {
      const Bytes part = Keys::part(stored, i);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        high[m] = Keys::dot(high[m], part, splat4(q[m].high + first + c + 4 * i));
        low[m] = Keys::dot(low[m], part, splat4(q[m].low + first + c + 4 * i));
      }
    }
  }
  const F32 scale = load_f16(reinterpret_cast<const std::uint16_t*>(scales) + group * kTileRows);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
    total[m] = fma(fma(to_f32(high[m]), splat(kQueryBase), to_f32(low[m])) * splat(q[m].step[group]), scale, total[m]);
}

template <class Keys, int M>
static inline void score_codes_tile(const std::byte* codes, const std::byte* scales, int dim, const QueryDigits* q,
                                    float* scores, std::size_t stride) {
  F32 total[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) total[m] = zero();
  for (int g = 0; g < dim / kScaleGroup; ++g) score_group<Keys, M, 2>(codes, scales, g, q, total);
  if (dim % kScaleGroup != 0) score_group<Keys, M, 1>(codes, scales, dim / kScaleGroup, q, total);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) store(scores + m * stride, total[m]);
}

template <class Keys>
static void score_codes(const TileRun& keys, const float* q, int queries, float* scores, std::size_t stride) {
  const int tiles = keys.tiles();
  for_query_blocks(queries, [&]<int M>(int first) {
    QueryDigits digits[M];
    for (int m = 0; m < M; ++m)
      split_query(q + static_cast<std::ptrdiff_t>(first + m) * keys.dim, keys.dim, Keys::kOffset, digits[m]);
    for (int t = 0; t < tiles; ++t) {
      prefetch_tile(keys, t + kTilesAhead, static_cast<std::size_t>(keys.dim / Keys::kChannels) * 64);
      score_codes_tile<Keys, M>(keys.codes[t], keys.scales[t], keys.dim, digits,
                                scores + first * stride + t * kTileRows, stride);
    }
  });
}

// ---- integer values: weight times scale becomes two unsigned digits, x = step (128 high + low)

constexpr int kWeightLimit = 128 * 128 - 1;
constexpr int kMixTiles = 4;  // tiles that share a step: their products are summed as integers
constexpr int kMixRows = kMixTiles * kTileRows;

struct WeightDigits {
  std::uint8_t high[kMixRows], low[kMixRows];
  float step;
  float sum;  // of all 128 high + low
};

// Lanes of the tile whose first row is `row` that lie in [first, last); the others zero.
static inline F32 inside(F32 x, int row, int first, int last) {
  if (row + kTileRows > last) x = first_n(x, last > row ? last - row : 0, zero());
  return row < first ? first_n(zero(), first - row < kTileRows ? first - row : kTileRows, x) : x;
}

// Up to kMixTiles vectors of numbers >= 0, one for each row, scaled so that the largest is `limit`.
struct Normalised {
  F32 x[kMixTiles];
  float largest;
};
template <class Load>
static inline void normalise(const TileRun& values, int tile, int tiles, float limit, Load load_tile, Normalised& out) {
  F32 top = zero();
  for (int t = 0; t < tiles; ++t) {
    out.x[t] = inside(load_tile(t), (tile + t) * kTileRows, values.first, values.last);
    top = max(top, out.x[t]);
  }
  out.largest = hmax(top);
  const F32 factor = splat(out.largest > kTiny ? limit / out.largest : 0.0F);
  for (int t = 0; t < tiles; ++t) out.x[t] = out.x[t] * factor;
}

// The product of the largest weight and the largest scale is what the digits can express.
static inline void split_weights(const Normalised& weights, const Normalised& scales, int tiles, WeightDigits& out) {
  I32 sum = zero_i32();
  for (int t = 0; t < tiles; ++t) {
    const I32 x = round_i32(weights.x[t] * scales.x[t]);
    store_i8(reinterpret_cast<std::int8_t*>(out.high) + t * kTileRows, shift_right<7>(x));
    store_i8(reinterpret_cast<std::int8_t*>(out.low) + t * kTileRows, x & splat_i32(127));
    sum = sum + x;
  }
  out.step = weights.largest * scales.largest / static_cast<float>(kWeightLimit);
  out.sum = hsum(to_f32(sum));
}

// One vector of stored value codes: 16 channels of 4 rows, or of 8 in two halves.
struct ValuesInt8 {
  static constexpr int kOffset = 0, kRows = 4, kParts = 1;
  static Bytes part(Bytes codes, int) { return codes; }
};
struct ValuesInt4 {
  static constexpr int kOffset = 8, kRows = 8, kParts = 2;
  static Bytes part(Bytes codes, int i) { return i == 0 ? low_nibbles(codes) : high_nibbles(codes); }
};

// `tiles` tiles into N vectors of channels from c on, for M outputs.
template <class Values, int M, int N>
static inline void mix_codes_group(const TileRun& values, int tile, int tiles, int c, const WeightDigits* w,
                                   float* out) {
  I32 high[M][N], low[M][N];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) high[m][n] = zero_i32(), low[m][n] = zero_i32();
  for (int t = 0; t < tiles; ++t) {
    const std::byte* codes = values.codes[tile + t] + static_cast<std::ptrdiff_t>(c) * 4;
#pragma GCC unroll 4
    for (int r = 0; r < kTileRows; r += Values::kRows, codes += static_cast<std::ptrdiff_t>(values.dim) * 4) {
      Bytes stored[N];
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) stored[n] = load_bytes(codes + 64 * n);
#pragma GCC unroll 2
      for (int i = 0; i < Values::kParts; ++i)
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          const Bytes h = splat4(w[m].high + t * kTileRows + r + 4 * i);
          const Bytes l = splat4(w[m].low + t * kTileRows + r + 4 * i);
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
      store(o, fma(sum, splat(w[m].step), load(o)));
    }
}

template <class Values>
static void mix_codes(const TileRun& values, const float* weights, std::size_t stride, int queries, float* out) {
  const int all = values.tiles();
  for (int tile = 0; tile < all; tile += kMixTiles) {
    const int tiles = all - tile < kMixTiles ? all - tile : kMixTiles;
    for (int t = 0; t < kMixTiles; ++t)
      prefetch_tile(values, tile + t + kTilesAhead, static_cast<std::size_t>(64 / Values::kRows) * values.dim);
    for_query_blocks(queries, [&]<int M>(int q) {
      Normalised w[M], scales;
      WeightDigits digits[M];
      for (int m = 0; m < M; ++m) {
        const float* from = weights + (q + m) * stride + tile * kTileRows;
        normalise(
            values, tile, tiles, 1, [&](int t) { return load(from + t * kTileRows); }, w[m]);
      }
      float* o = out + static_cast<std::ptrdiff_t>(q) * values.dim;
      for (int g = 0; g * kScaleGroup < values.dim; ++g) {
        const auto load_scales = [&](int t) {
          return load_f16(reinterpret_cast<const std::uint16_t*>(values.scales[tile + t]) + g * kTileRows);
        };
        normalise(values, tile, tiles, kWeightLimit, load_scales, scales);
        for (int m = 0; m < M; ++m) split_weights(w[m], scales, tiles, digits[m]);
        if (group_vectors(values.dim, g) == 2)
          mix_codes_group<Values, M, 2>(values, tile, tiles, g * kScaleGroup, digits, o);
        else
          mix_codes_group<Values, M, 1>(values, tile, tiles, g * kScaleGroup, digits, o);
      }
    });
  }
}

}  // namespace lamina::LAMINA_ISA
