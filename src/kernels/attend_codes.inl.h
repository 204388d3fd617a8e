// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on rows of codes: scores from integer dot products on the keys as they are stored.
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

}  // namespace lamina::LAMINA_ISA
