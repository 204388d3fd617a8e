// SPDX-License-Identifier: Apache-2.0
// Kernels of prompts on rows of bytes (attend.h: ByteRows): rows and queries become 8-bit codes, their products are
// integer dot products. Codes and sums are exact integers, so no result depends on how queries and rows are cut.
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

constexpr float kByteLimit = 127, kByteWeightLimit = 255;

static inline int byte_vectors(int dim, int group) {
  return (dim - group * kByteGroup < kByteGroup ? dim - group * kByteGroup : kByteGroup) / 16;
}
// Zeros get codes of 0; rows that nobody sees may be anything.
static inline F32 byte_inverse(F32 largest, float limit) { return splat(limit) / max(largest, splat(1e-30F)); }

// ---- rows -----------------------------------------------------------------------------------------------------------

// The butterflies of Hadamard transforms of `block` vectors each, without their factor.
static inline void butterflies(float* x, int vectors, int block) {
  for (int h = 1; h < block; h *= 2)
    for (int i = 0; i + h < vectors; i += 2 * h)
      for (float* p = x + 16 * i; p < x + 16 * (i + h); p += 16) {
        const F32 a = load(p), b = load(p + 16 * h);
        store(p, a + b);
        store(p + 16 * h, a - b);
      }
}

static inline I32 four_bytes(const I32* x) {
  const I32 low = splat_i32(255);
  return (x[0] & low) + shift_left<8>(x[1] & low) + shift_left<16>(x[2] & low) + shift_left<24>(x[3] & low);
}

static void bytes_of_keys(float* k, const ByteRows& to) {
  for (int t = 0; t < to.tiles; ++t, k += static_cast<std::ptrdiff_t>(to.dim) * kTileRows) {
    butterflies(k, to.dim, to.rotate);
    std::byte* codes = to.keys(t);
    for (int g = 0; g < byte_groups(to.dim); ++g) {
      const float* x = k + static_cast<std::ptrdiff_t>(g) * kByteGroup * kTileRows;
      const int channels = 16 * byte_vectors(to.dim, g);
      F32 largest = zero();
      for (int c = 0; c < channels; ++c) largest = max(largest, abs(load(x + c * kTileRows)));
      const F32 inverse = byte_inverse(largest, kByteLimit);
      store(to.key_scales(t) + g * kTileRows, largest * splat(1 / kByteLimit));
      for (int c = 0; c < channels; c += 4, codes += 64) {
        I32 code[4];
        for (int i = 0; i < 4; ++i) code[i] = round_i32(load(x + (c + i) * kTileRows) * inverse) + splat_i32(128);
        store_i32(reinterpret_cast<std::int32_t*>(codes), four_bytes(code));
      }
    }
  }
}

static void bytes_of_values(const float* v, const ByteRows& to) {
  for (int t = 0; t < to.tiles; ++t, v += static_cast<std::ptrdiff_t>(to.dim) * kTileRows) {
    for (int g = 0; g < byte_groups(to.dim); ++g) {
      const int vectors = byte_vectors(to.dim, g);
      float* const scales = to.value_scales(t) + g * kTileRows;
      for (int r = 0; r < kTileRows; r += 4) {
        const float* const x = v + static_cast<std::ptrdiff_t>(r) * to.dim + g * kByteGroup;
        F32 inverse[4];
        for (int i = 0; i < 4; ++i) {
          F32 largest = zero();
          for (int n = 0; n < vectors; ++n) largest = max(largest, abs(load(x + i * to.dim + 16 * n)));
          const float top = hmax(largest);
          scales[r + i] = top / kByteLimit;
          inverse[i] = byte_inverse(splat(top), kByteLimit);
        }
        std::byte* const codes = to.values(t) + (static_cast<std::ptrdiff_t>(r / 4) * to.dim + g * kByteGroup) * 4;
        for (int n = 0; n < vectors; ++n) {
          I32 code[4];
          for (int i = 0; i < 4; ++i) code[i] = round_i32(load(x + i * to.dim + 16 * n) * inverse[i]);
          store_i32(reinterpret_cast<std::int32_t*>(codes + 64 * n), four_bytes(code));
        }
      }
    }
  }
}

// ---- queries --------------------------------------------------------------------------------------------------------

// The same transform of a row, times 1 / block, which is what both factors come to. Within 16 channels it is a product
// with a matrix of signs.
struct Signs {
  float x[16][16];
  explicit Signs(int block) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j)
        x[i][j] = i / block != j / block                                         ? 0.0F
                  : __builtin_parity(static_cast<unsigned>(i & j & (block - 1))) ? -1.0F
                                                                                 : 1.0F;
  }
};
static inline void rotate_query(const float* q, const Signs& signs, const ByteQueries& to, float* out) {
  for (int c = 0; c < to.dim; c += 16) {
    F32 sum = zero();
    for (int j = 0; j < 16; ++j) sum = fma(splat(q[c + j]), load(signs.x[j]), sum);
    store(out + c, sum * splat(1.0F / static_cast<float>(to.rotate)));
  }
  if (to.rotate >= 32) butterflies(out, to.dim / 16, to.rotate / 16);
}

static void bytes_of_queries(const float* q, const ByteQueries& to) {
  const int groups = byte_groups(to.dim);
  const Signs signs(to.rotate < 16 ? to.rotate : 16);
  for (int row = 0; row < to.rows; ++row, q += to.dim) {
    float rotated[kMaxHeadDim];
    if (to.rotate > 1) rotate_query(q, signs, to, rotated);
    const float* const from = to.rotate > 1 ? rotated : q;
    for (int g = 0; g < groups; ++g) {
      const int vectors = byte_vectors(to.dim, g), first = g * kByteGroup;
      F32 largest = zero();
      for (int n = 0; n < vectors; ++n) largest = max(largest, abs(load(from + first + 16 * n)));
      const float top = hmax(largest);
      const F32 inverse = byte_inverse(splat(top), kByteLimit);
      I32 sum = zero_i32();
      for (int n = 0; n < vectors; ++n) {
        const I32 code = round_i32(load(from + first + 16 * n) * inverse);
        store_i8(to.codes + static_cast<std::ptrdiff_t>(row) * to.dim + first + 16 * n, code);
        sum = sum + code;
      }
      to.scales[row * groups + g] = top / kByteLimit;
      to.offsets[row * groups + g] = -128 * static_cast<std::int32_t>(hsum(to_f32(sum)));
    }
  }
}

// ---- scores ---------------------------------------------------------------------------------------------------------

constexpr int kByteQueries = kRegisters >= 32 ? 6 : 2;  // rows of queries times tiles whose sums stay in registers
constexpr int kByteTiles = kRegisters >= 32 ? 4 : 2;
constexpr int kWordUnroll = kRegisters >= 32 ? 8 : 1;

template <int M, int T>
static inline void score_bytes_block(const ByteRows& k, int tile, const ByteQueries& q, int row, float* scores,
                                     std::size_t stride) {
  const int groups = byte_groups(k.dim);
  for (int g = 0; g < groups; ++g) {
    const std::int8_t* const codes = q.codes + static_cast<std::ptrdiff_t>(row) * k.dim + g * kByteGroup;
    const std::byte* rows[T];
    I32 acc[M][T];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) rows[t] = k.keys(tile + t) + static_cast<std::ptrdiff_t>(g) * kByteGroup * kTileRows;
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) acc[m][t] = splat_i32(q.offsets[(row + m) * groups + g]);
    const auto add_words = [&]<int kWords>(int first) {
#pragma GCC unroll 16
      for (int word = 0; word < kWords; ++word) {
        Bytes key[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) key[t] = load_bytes(rows[t] + 64 * (first + word));
#pragma GCC unroll 6
        for (int m = 0; m < M; ++m) {
          const Bytes x = splat4(codes + static_cast<std::ptrdiff_t>(m) * k.dim + 4 * (first + word));
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) acc[m][t] = dot4(acc[m][t], key[t], x);
        }
      }
    };
    if (byte_vectors(k.dim, g) == 4)
      add_words.template operator()<16>(0);
    else
      for (int v = 0; v < byte_vectors(k.dim, g); ++v) add_words.template operator()<4>(4 * v);
    F32 scale[T];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) scale[t] = load(k.key_scales(tile + t) + g * kTileRows);
    const float* const steps = q.scales + static_cast<std::ptrdiff_t>(row) * groups + g;
    float* const block =
        scores + static_cast<std::size_t>(row) * stride + static_cast<std::ptrdiff_t>(tile) * kTileRows;
    const auto store_all = [&]<bool kFirst>() {
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) {
        const F32 step = splat(steps[m * groups]);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          float* const to = block + m * stride + t * kTileRows;
          const F32 factor = scale[t] * step;
          store(to, kFirst ? to_f32(acc[m][t]) * factor : fma(to_f32(acc[m][t]), factor, load(to)));
        }
      }
    };
    g == 0 ? store_all.template operator()<true>() : store_all.template operator()<false>();
  }
}

// Calls body.operator()<M>(first row) for blocks of rows.
template <int kMost, class Body>
static inline void for_row_blocks(int rows, Body body) {
  int row = 0;
  for (; row + kMost <= rows; row += kMost) body.template operator()<kMost>(row);
  for (; row < rows; ++row) body.template operator()<1>(row);
}

static void score_bytes(const ByteRows& k, const ByteQueries& q, float* scores, std::size_t stride) {
  int tile = 0;
  for (; tile + kByteTiles <= k.tiles; tile += kByteTiles)
    for_row_blocks<kByteQueries>(
        q.rows, [&]<int M>(int row) { score_bytes_block<M, kByteTiles>(k, tile, q, row, scores, stride); });
  for (; tile < k.tiles; ++tile)
    for_row_blocks<kByteQueries>(q.rows,
                                 [&]<int M>(int row) { score_bytes_block<M, 1>(k, tile, q, row, scores, stride); });
}

// ---- mixtures -------------------------------------------------------------------------------------------------------

// The weights of one row, times the values' scales, in steps of a 255th of the largest.
static inline float bytes_of_weights(const ByteRows& v, int group, const float* weights, std::uint8_t* codes) {
  F32 x[kByteBlockTiles], largest = zero();
  for (int t = 0; t < v.tiles; ++t) {
    x[t] = load(weights + t * kTileRows) * load(v.value_scales(t) + group * kTileRows);
    largest = max(largest, x[t]);
  }
  const float top = hmax(largest);
  const F32 inverse = byte_inverse(splat(top), kByteWeightLimit);
  for (int t = 0; t < v.tiles; ++t)
    store_i8(reinterpret_cast<std::int8_t*>(codes) + t * kTileRows, round_i32(x[t] * inverse));
  return top / kByteWeightLimit;
}

template <int M, int N>
static inline void mix_bytes_block(const ByteRows& v, int channel, const std::uint8_t* codes, const float* steps,
                                   float* out) {
  I32 acc[M][N];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) acc[m][n] = zero_i32();
  for (int t = 0; t < v.tiles; ++t) {
    const std::byte* const rows = v.values(t) + static_cast<std::ptrdiff_t>(channel) * 4;
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; ++quad) {
      Bytes value[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) value[n] = load_bytes(rows + static_cast<std::ptrdiff_t>(quad) * v.dim * 4 + 64 * n);
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) {
        const Bytes w = splat4(codes + m * kByteBlockTiles * kTileRows + t * kTileRows + 4 * quad);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n] = dot4(acc[m][n], w, value[n]);
      }
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float* const to = out + static_cast<std::ptrdiff_t>(m) * v.dim + channel + 16 * n;
      store(to, fma(to_f32(acc[m][n]), splat(steps[m]), load(to)));
    }
}

static void mix_bytes(const ByteRows& v, const float* weights, std::size_t stride, int rows, float* out) {
  constexpr int kVectors = kRegisters >= 32 ? 4 : 2;
  for_row_blocks<kByteQueries>(rows, [&]<int M>(int row) {
    std::uint8_t codes[M * kByteBlockTiles * kTileRows];
    float steps[M];
    float* const to = out + static_cast<std::ptrdiff_t>(row) * v.dim;
    for (int g = 0; g < byte_groups(v.dim); ++g) {
      for (int m = 0; m < M; ++m)
        steps[m] = bytes_of_weights(v, g, weights + static_cast<std::size_t>(row + m) * stride,
                                    codes + m * kByteBlockTiles * kTileRows);
      int n = 0;
      for (; n + kVectors <= byte_vectors(v.dim, g); n += kVectors)
        mix_bytes_block<M, kVectors>(v, g * kByteGroup + 16 * n, codes, steps, to);
      for (; n < byte_vectors(v.dim, g); ++n) mix_bytes_block<M, 1>(v, g * kByteGroup + 16 * n, codes, steps, to);
    }
  });
}

}  // namespace lamina::LAMINA_ISA
