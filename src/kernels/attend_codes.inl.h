// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on rows of codes: integer dot products on the codes as they are stored.
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
  float sum[kMaxGroups];                                         // of x
  std::int32_t high_offset[kMaxGroups], low_offset[kMaxGroups];  // what the offset of the stored codes adds, negated
};

static inline int group_vectors(int dim, int group) { return dim - group * kScaleGroup >= kScaleGroup ? 2 : 1; }

static inline Bytes pairs(Bytes codes, int i) {
  return i == 0   ? bit_pairs<0>(codes)
         : i == 1 ? bit_pairs<1>(codes)
         : i == 2 ? bit_pairs<2>(codes)
                  : bit_pairs<3>(codes);
}

// What stored key codes are: 16 rows of 4 channels in a 64-byte vector, or of 8 or 16 channels in parts.
struct KeysInt8 {
  static constexpr int kOffset = 128, kChannels = 4, kParts = 1;
  static constexpr bool kMinima = false, kByChannel = false;
  static Bytes part(Bytes codes, int) { return codes; }
  static I32 dot(I32 acc, Bytes codes, Bytes digits) { return dot4(acc, codes, digits); }
};
struct KeysInt4 {
  static constexpr int kOffset = 8, kChannels = 8, kParts = 2;
  static constexpr bool kMinima = false, kByChannel = false;
  static Bytes part(Bytes codes, int i) { return i == 0 ? low_nibbles(codes) : high_nibbles(codes); }
  static I32 dot(I32 acc, Bytes codes, Bytes digits) { return dot4_small(acc, codes, digits); }
};
struct KeysAsym4 : KeysInt4 {
  static constexpr int kOffset = 0;
  static constexpr bool kMinima = true;
};
struct KeysAsym2 : KeysAsym4 {
  static constexpr int kChannels = 16, kParts = 4;
  static Bytes part(Bytes codes, int i) { return pairs(codes, i); }
};
template <class Keys>
struct ByChannel : Keys {
  static constexpr bool kMinima = false, kByChannel = true;
};

// load_query(c): channels [c, c + 16) of what meets the codes.
template <class Keys, class Load>
static inline void split_query(Load load_query, int dim, QueryDigits& out) {
  for (int g = 0; g * kScaleGroup < dim; ++g) {
    const int vectors = group_vectors(dim, g);
    F32 x[2], largest = zero();
    for (int n = 0; n < vectors; ++n) {
      x[n] = load_query(g * kScaleGroup + 16 * n);
      largest = max(largest, abs(x[n]));
    }
    const float top = hmax(largest);
    const F32 inverse = splat(top > kTiny ? 127.0F * kQueryBase / top : 0.0F);
    out.step[g] = top / (127.0F * kQueryBase);
    F32 high_sum = zero(), low_sum = zero();
    for (int n = 0; n < vectors; ++n) {
      const int c = g * kScaleGroup + 16 * n;
      x[n] = x[n] * inverse;
      const I32 high = round_i32(x[n] * splat(1.0F / kQueryBase));
      const I32 low = round_i32(fma(to_f32(high), splat(-kQueryBase), x[n]));
      store_i8(out.high + c, high);
      store_i8(out.low + c, low);
      high_sum = high_sum + to_f32(high);
      low_sum = low_sum + to_f32(low);
    }
    out.high_offset[g] = out.low_offset[g] = 0;
    if constexpr (Keys::kOffset != 0) {
      out.high_offset[g] = -Keys::kOffset * static_cast<std::int32_t>(hsum(high_sum));
      out.low_offset[g] = -Keys::kOffset * static_cast<std::int32_t>(hsum(low_sum));
    }
    if constexpr (Keys::kMinima) out.sum[g] = hsum(fma(high_sum, splat(kQueryBase), low_sum)) * out.step[g];
  }
}

// GCC 12 copies all sums in a rolled loop: unrolling took 26 to 20 ns a tile (64 channels, 3 queries, Zen 5). With
// AVX2 it costs a third instead.
constexpr int kGroupUnroll = kRegisters >= 32 ? 8 : 1;

// The N vectors of channels of one group, times their scales.
template <class Keys, int M, int N>
static inline void score_group(const std::byte* codes, const std::uint16_t* scales, int groups, int group,
                               const QueryDigits* q, F32* total) {
  I32 high[M], low[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) high[m] = splat_i32(q[m].high_offset[group]), low[m] = splat_i32(q[m].low_offset[group]);
  const int first = group * kScaleGroup;
  codes += static_cast<std::ptrdiff_t>(first / Keys::kChannels) * 64;
#pragma GCC unroll kGroupUnroll
  for (int c = 0; c < 16 * N; c += Keys::kChannels) {
    const Bytes stored = load_bytes(codes + static_cast<std::ptrdiff_t>(c / Keys::kChannels) * 64);
#pragma GCC unroll 4
    for (int i = 0; i < Keys::kParts; ++i) {
      const Bytes part = Keys::part(stored, i);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        high[m] = Keys::dot(high[m], part, splat4(q[m].high + first + c + 4 * i));
        low[m] = Keys::dot(low[m], part, splat4(q[m].low + first + c + 4 * i));
      }
    }
  }
  const F32 scale = Keys::kByChannel ? splat(1.0F) : load_f16(scales + group * kTileRows);
  const F32 least = Keys::kMinima ? load_f16(scales + (groups + group) * kTileRows) : zero();
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    total[m] = fma(fma(to_f32(high[m]), splat(kQueryBase), to_f32(low[m])) * splat(q[m].step[group]), scale, total[m]);
    if (Keys::kMinima) total[m] = fma(splat(q[m].sum[group]), least, total[m]);
  }
}

// bias: what every row's score has besides.
template <class Keys, int M>
static inline void score_codes_tile(const std::byte* codes, const std::uint16_t* scales, int dim, const QueryDigits* q,
                                    const float* bias, float* scores, std::size_t stride) {
  F32 total[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) total[m] = Keys::kByChannel ? splat(bias[m]) : zero();
  const int whole = dim / kScaleGroup, groups = groups_of(dim);
  for (int g = 0; g < whole; ++g) score_group<Keys, M, 2>(codes, scales, groups, g, q, total);
  if (groups > whole) score_group<Keys, M, 1>(codes, scales, groups, whole, q, total);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) store(scores + m * stride, total[m]);
}

// The query times a group's scales; what the minima add to each of its rows' scores.
template <class Keys>
static inline float fold_scales(const float* q, const std::uint16_t* scales, int dim, QueryDigits& out) {
  split_query<Keys>([&](int c) { return load(q + c) * load_f16(scales + c); }, dim, out);
  F32 bias = zero();
  for (int c = 0; c < dim; c += 16) bias = fma(load(q + c), load_f16(scales + dim + c), bias);
  return hsum(bias);
}

template <class Keys>
static void score_codes(const TileRun& keys, const float* q, int queries, float* scores, std::size_t stride) {
  const int tiles = keys.tiles(), dim = keys.dim;
  for_query_blocks(queries, [&]<int M>(int first) {
    QueryDigits digits[M];
    float bias[M] = {};
    const auto query = [&](int m) { return q + static_cast<std::ptrdiff_t>(first + m) * dim; };
    for (int m = 0; m < M && !Keys::kByChannel; ++m)
      split_query<Keys>([&](int c) { return load(query(m) + c); }, dim, digits[m]);
    for (int t = 0; t < tiles; ++t) {
      prefetch_after(keys, t);
      const auto* const scales = reinterpret_cast<const std::uint16_t*>(keys.scales[t]);
      if (Keys::kByChannel && (t == 0 || keys.scales[t] != keys.scales[t - 1]))
        for (int m = 0; m < M; ++m) bias[m] = fold_scales<Keys>(query(m), scales, dim, digits[m]);
      score_codes_tile<Keys, M>(keys.codes[t], scales, dim, digits, bias, scores + first * stride + t * kTileRows,
                                stride);
    }
  });
}

// ---- integer values: weight times scale becomes two unsigned digits, x = step (128 high + low)

constexpr int kWeightLimit = 128 * 128 - 1;
constexpr int kMixTiles = 8;  // tiles that share a step: their products are summed as integers
constexpr int kMixRows = kMixTiles * kTileRows;

struct WeightDigits {
  std::uint8_t high[kMixRows], low[kMixRows];
  float step;
  float sum;   // of all 128 high + low
  float bias;  // what minima add to every channel
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

// What the minima of the group's rows add.
static inline float mixed_minima(const TileRun& values, int tile, int tiles, int group, const Normalised& weights) {
  F32 sum = zero();
  for (int t = 0; t < tiles; ++t) {
    const auto* const minima =
        reinterpret_cast<const std::uint16_t*>(values.scales[tile + t]) + (groups_of(values.dim) + group) * kTileRows;
    sum = fma(weights.x[t], inside(load_f16(minima), (tile + t) * kTileRows, values.first, values.last), sum);
  }
  return hsum(sum) * weights.largest;
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
#pragma GCC unroll 4
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
      const F32 before = Values::kMinima ? load(o) + splat(w[m].bias) : load(o);
      store(o, fma(sum, splat(w[m].step), before));
    }
}

template <class Values>
static void mix_codes(const TileRun& values, const float* weights, std::size_t stride, int queries, float* out) {
  const int all = values.tiles();
  for (int tile = 0; tile < all; tile += kMixTiles) {
    const int tiles = all - tile < kMixTiles ? all - tile : kMixTiles;
    for (int t = 0; t < kMixTiles; ++t) prefetch_after(values, tile + t);
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
        for (int m = 0; m < M; ++m) {
          split_weights(w[m], scales, tiles, digits[m]);
          if (Values::kMinima) digits[m].bias = mixed_minima(values, tile, tiles, g, w[m]);
        }
        if (group_vectors(values.dim, g) == 2)
          mix_codes_group<Values, M, 2>(values, tile, tiles, g * kScaleGroup, digits, o);
        else
          mix_codes_group<Values, M, 1>(values, tile, tiles, g * kScaleGroup, digits, o);
      }
    });
  }
}

}  // namespace lamina::LAMINA_ISA
