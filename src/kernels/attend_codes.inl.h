// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on rows of codes: integer dot products on the codes as they are stored.
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

// ---- integer keys: the query becomes 16-bit integers, x = step * word

constexpr float kQueryLimit = 32767;
constexpr int kMaxGroups = kMaxHeadDim / kScaleGroup;

constexpr float kTiny = 1e-30F;  // smaller numbers count as zero: their inverse times 2^15 would overflow

struct QueryWords {
  std::int16_t x[kMaxHeadDim];      // of each four channels in the order of store_words
  float step[kMaxGroups];           // by group of channels
  float sum[kMaxGroups];            // of x times step
  std::int32_t offset[kMaxGroups];  // what the offset of the stored codes adds, negated
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
};
struct KeysInt4 {
  static constexpr int kOffset = 8, kChannels = 8, kParts = 2;
  static constexpr bool kMinima = false, kByChannel = false;
  static Bytes part(Bytes codes, int i) { return i == 0 ? low_nibbles(codes) : high_nibbles(codes); }
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

template <class Keys>
static inline void words_of(const float* q, int dim, QueryWords& out) {
  for (int g = 0; g * kScaleGroup < dim; ++g) {
    const int vectors = group_vectors(dim, g);
    const float* const x = q + static_cast<std::ptrdiff_t>(g) * kScaleGroup;
    F32 largest = zero();
    for (int n = 0; n < vectors; ++n) largest = max(largest, abs(load(x + 16 * n)));
    const float top = hmax(largest);
    const F32 inverse = splat(top > kTiny ? kQueryLimit / top : 0.0F);
    I32 sum = zero_i32();
    for (int n = 0; n < vectors; ++n) {
      const I32 words = round_i32(load(x + 16 * n) * inverse);
      store_words(out.x + g * kScaleGroup + 16 * n, words);
      sum = sum + words;
    }
    const float all = hsum(to_f32(sum));
    out.step[g] = top / kQueryLimit;
    out.sum[g] = all * out.step[g];
    out.offset[g] = -Keys::kOffset * static_cast<std::int32_t>(all);
  }
}

// Tiles that share one load of the query's words. Vectors hold sums and totals of each, and their codes.
template <int M>
constexpr int code_tiles() {
  return kRegisters < 32 ? 1 : M <= 2 ? 4 : 2;
}

// GCC 12 copies all sums in a rolled loop: unrolling took 26 to 20 ns a tile (64 channels, 3 queries, Zen 5). With
// AVX2 it costs a third instead.
constexpr int kGroupUnroll = kRegisters >= 32 ? 8 : 1;

// What a tile of scales has for two groups.
template <class Codes>
[[gnu::always_inline]] static inline void prefetch_scales(const std::byte* scales, int groups, int group) {
  const auto at = [&](int g) { return scales + static_cast<std::size_t>(g) * kTileRows * sizeof(std::uint16_t); };
  prefetch_once(at(group));
  if (Codes::kMinima) prefetch_once(at(groups + group));
}

// The N vectors of channels of one group, times their scales, of T tiles.
template <class Keys, int M, int T, int N>
static inline void score_group(const std::byte* const* codes, const std::byte* const* scales, int ahead, Later& later,
                               int groups, int group, const QueryWords* q, F32 (*total)[T]) {
  I32 sum[M][T];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) sum[m][t] = splat_i32(q[m].offset[group]);
  const int first = group * kScaleGroup;
#pragma GCC unroll kGroupUnroll
  for (int c = 0; c < 16 * N; c += Keys::kChannels) {
    Bytes stored[T];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>((first + c) / Keys::kChannels) * 64;
      later.ask();
      stored[t] = load_bytes(codes[t] + at);
    }
#pragma GCC unroll 4
    for (int i = 0; i < Keys::kParts; ++i) {
      Bytes even[T], odd[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const Bytes part = Keys::part(stored[t], i);
        even[t] = even_bytes(part), odd[t] = odd_bytes(part);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const std::int16_t* const words = q[m].x + first + c + 4 * i;
        const Bytes at_even = splat4(words), at_odd = splat4(words + 2);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[m][t] = dot2(dot2(sum[m][t], even[t], at_even), odd[t], at_odd);
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) {
    const auto* const tile_scales = reinterpret_cast<const std::uint16_t*>(scales[t]);
    if (!Keys::kByChannel && group % 2 == 0) prefetch_scales<Keys>(scales[t + ahead], groups, group);
    const F32 scale = Keys::kByChannel ? splat(1.0F) : load_f16(tile_scales + group * kTileRows);
    const F32 least = Keys::kMinima ? load_f16(tile_scales + (groups + group) * kTileRows) : zero();
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      total[m][t] = fma(to_f32(sum[m][t]) * splat(q[m].step[group]), scale, total[m][t]);
      if (Keys::kMinima) total[m][t] = fma(splat(q[m].sum[group]), least, total[m][t]);
    }
  }
}

// bias: what every row's score has besides.
template <class Keys, int M, int T>
static inline void score_code_tiles(const TileRun& keys, int tile, const QueryWords* q, const float* bias,
                                    float* scores, std::size_t stride) {
  F32 total[M][T];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) total[m][t] = Keys::kByChannel ? splat(bias[m]) : zero();
  const auto *const codes = keys.codes + tile, *const scales = keys.scales + tile;
  Later later(codes + keys.ahead, keys.dim / Keys::kChannels * 64);
  const int whole = keys.dim / kScaleGroup, groups = groups_of(keys.dim);
  for (int g = 0; g < whole; ++g) score_group<Keys, M, T, 2>(codes, scales, keys.ahead, later, groups, g, q, total);
  if (groups > whole) score_group<Keys, M, T, 1>(codes, scales, keys.ahead, later, groups, whole, q, total);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) store(scores + m * stride + (tile + t) * kTileRows, total[m][t]);
}

// Tiles [first, last).
template <class Keys, int M>
static inline void score_code_range(const TileRun& keys, int first, int last, const QueryWords* q, const float* bias,
                                    float* scores, std::size_t stride) {
  constexpr int kT = code_tiles<M>();
  for (; first + kT <= last; first += kT) score_code_tiles<Keys, M, kT>(keys, first, q, bias, scores, stride);
  for (; first < last; ++first) score_code_tiles<Keys, M, 1>(keys, first, q, bias, scores, stride);
}

// The query times a group's scales, of one step; what the minima add to each of its rows' scores.
static inline float fold_scales(const float* q, const std::uint16_t* scales, int dim, QueryWords& out) {
  float x[kMaxHeadDim];
  F32 largest = zero(), bias = zero();
  for (int c = 0; c < dim; c += 16) {
    const F32 scaled = load(q + c) * load_f16(scales + c);
    store(x + c, scaled);
    largest = max(largest, abs(scaled));
    bias = fma(load(q + c), load_f16(scales + dim + c), bias);
  }
  const float top = hmax(largest);
  const F32 inverse = splat(top > kTiny ? kQueryLimit / top : 0.0F);
  for (int c = 0; c < dim; c += 16) store_words(out.x + c, round_i32(load(x + c) * inverse));
  for (int g = 0; g < groups_of(dim); ++g) out.step[g] = top / kQueryLimit, out.offset[g] = 0;
  return hsum(bias);
}

// A query is folded for several groups, one after the other, so that the machine can work on them beside each other.
constexpr int kFolded = 4;

template <class Keys, int M>
static inline void score_by_channel(const TileRun& keys, const float* q, float* scores, std::size_t stride) {
  QueryWords words[kFolded][M];
  float bias[kFolded][M];
  int begins[kFolded + 1];  // the groups' first tiles, and the end
  for (int t = 0; t < keys.tiles();) {
    int groups = 0;
    for (; t < keys.tiles(); ++t) {
      if (groups > 0 && keys.scales[t] == keys.scales[t - 1]) continue;
      if (groups == kFolded) break;
      const auto* const scales = reinterpret_cast<const std::uint16_t*>(keys.scales[t]);
      for (int c = 0; c < 2 * keys.dim; c += 32) prefetch_once(keys.scales[t + keys.ahead] + 2 * c);
      for (int m = 0; m < M; ++m)
        bias[groups][m] =
            fold_scales(q + static_cast<std::ptrdiff_t>(m) * keys.dim, scales, keys.dim, words[groups][m]);
      begins[groups++] = t;
    }
    begins[groups] = t;
    for (int g = 0; g < groups; ++g)
      score_code_range<Keys, M>(keys, begins[g], begins[g + 1], words[g], bias[g], scores, stride);
  }
}

template <class Keys>
static void score_codes(const TileRun& keys, const float* q, int queries, float* scores, std::size_t stride) {
  for_query_blocks(queries, [&]<int M>(int first) {
    const float* const x = q + static_cast<std::ptrdiff_t>(first) * keys.dim;
    if constexpr (Keys::kByChannel) {
      score_by_channel<Keys, M>(keys, x, scores + first * stride, stride);
    } else {
      QueryWords words[M];
      for (int m = 0; m < M; ++m) words_of<Keys>(x + static_cast<std::ptrdiff_t>(m) * keys.dim, keys.dim, words[m]);
      constexpr int kT = code_tiles<M>();
      for (int t = 0; t < keys.tiles(); t += kT)
        score_code_range<Keys, M>(keys, t, t + kT < keys.tiles() ? t + kT : keys.tiles(), words, nullptr,
                                  scores + first * stride, stride);
    }
  });
}

// ---- integer values: weight times scale becomes two unsigned digits, x = step (128 high + low)

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
