// SPDX-License-Identifier: Apache-2.0
// Decode kernels of attention on rows of floats: scores from keys and mixtures of values, read as they are stored. A
// block of up to kScoreQueries queries (template parameter M) shares every load of a row.
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

// ---- floating-point rows: f32, f16, bf16 ----------------------------------------------------------------------------

struct RowsF32 {
  using T = float;
  static constexpr int kLoadsOfLine = 1;  // loads of 16 numbers that make a cache line
  static F32 load16(const T* p) { return load(p); }
};
struct RowsF16 {
  using T = std::uint16_t;
  static constexpr int kLoadsOfLine = 2;
  static F32 load16(const T* p) { return load_f16(p); }
};
struct RowsBF16 {
  using T = std::uint16_t;
  static constexpr int kLoadsOfLine = 2;
  static F32 load16(const T* p) { return load_bf16(p); }
};

// Tiles that are scored together: each sum runs over the channels in order, as it does in a prompt's products, so the
// multiply-adds in flight come from several tiles, within the registers there are.
template <int M>
constexpr int tiles_together() {
  if (kRegisters >= 32) return M == 1 ? 8 : 4;
  return M == 1 ? 4 : M == 4 ? 1 : 2;
}

// Asks memory for what is read later, a cache line a call, in the order of addresses: then a hardware prefetcher
// recognises a stream and runs ahead in its page, which alone keeps more lines on their way than a core can ask for.
class Later {
 public:
  Later(const std::byte* const* tiles, int tile_bytes) : tiles_(tiles), tile_bytes_(tile_bytes) {}
  [[gnu::always_inline]] void ask() {
    prefetch_once(*tiles_ + at_);
    at_ += 64;
    if (at_ >= tile_bytes_) at_ = 0, ++tiles_;
  }

 private:
  const std::byte* const* tiles_;
  std::ptrdiff_t at_ = 0, tile_bytes_;
};

template <class Rows, int M, int T>
static inline void score_tiles(const std::byte* const* codes, Later& later, int dim, const float* q, float* scores,
                               std::size_t stride) {
  const typename Rows::T* k[T];  // [dim][16]
  F32 sum[T][M];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    k[t] = reinterpret_cast<const typename Rows::T*>(codes[t]);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sum[t][m] = zero();
  }
  for (int c = 0; c < dim; ++c) {
    F32 x[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) x[m] = splat(q[m * dim + c]);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      if (t % Rows::kLoadsOfLine == 0 && (T > 1 || c % Rows::kLoadsOfLine == 0)) later.ask();
      const F32 row = Rows::load16(k[t] + static_cast<std::ptrdiff_t>(c) * kTileRows);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[t][m] = fma(x[m], row, sum[t][m]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) store(scores + m * stride + t * kTileRows, sum[t][m]);
}

// Groups of channels that share a scale.
static inline int groups_of(int dim) { return (dim + kScaleGroup - 1) / kScaleGroup; }

// Calls body.operator()<M>(first query) for blocks of queries.
template <class Body>
static inline void for_query_blocks(int queries, Body body) {
  static_assert(kScoreQueries == 4);
  for (int q = 0; q < queries; q += kScoreQueries) {
    switch (queries - q) {
      case 1:
        body.template operator()<1>(q);
        break;
      case 2:
        body.template operator()<2>(q);
        break;
      case 3:
        body.template operator()<3>(q);
        break;
      default:
        body.template operator()<4>(q);
        break;
    }
  }
}

template <class Rows>
static void score_floats(const TileRun& keys, const float* q, int queries, float* scores, std::size_t stride) {
  const int tiles = keys.tiles();
  constexpr int kMost = tiles_together<1>();
  const int tile_bytes = keys.dim * kTileRows * static_cast<int>(sizeof(typename Rows::T));
  for (int t = 0; t < tiles; t += kMost) {
    const int n = tiles - t < kMost ? tiles - t : kMost;
    for_query_blocks(queries, [&]<int M>(int first) {
      constexpr int kT = tiles_together<M>();
      const float* from = q + static_cast<std::ptrdiff_t>(first) * keys.dim;
      float* to = scores + first * stride + t * kTileRows;
      Later later(keys.codes + t + keys.ahead, tile_bytes);
      int i = 0;
      for (; i + kT <= n; i += kT)
        score_tiles<Rows, M, kT>(keys.codes + t + i, later, keys.dim, from, to + i * kTileRows, stride);
      for (; i < n; ++i) score_tiles<Rows, M, 1>(keys.codes + t + i, later, keys.dim, from, to + i * kTileRows, stride);
    });
  }
}

// Rows [first, last) of one tile into channels [c, c + 16 N) of M outputs.
template <class Rows, int M, int N>
static inline void mix_tile(const typename Rows::T* v, const typename Rows::T* later, int dim, const float* weights,
                            std::size_t stride, int first, int last, float* out) {
  F32 sum[M][N];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[m][n] = load(out + m * dim + 16 * n);
  for (int r = first; r < last; ++r) {
    F32 x[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      if (n % Rows::kLoadsOfLine == 0) prefetch_once(later + static_cast<std::ptrdiff_t>(r) * dim + 16 * n);
      x[n] = Rows::load16(v + static_cast<std::ptrdiff_t>(r) * dim + 16 * n);
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] = fma(splat(weights[m * stride + r]), x[n], sum[m][n]);
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(out + m * dim + 16 * n, sum[m][n]);
}

// Vectors of channels that M outputs keep in registers at once.
template <int M>
constexpr int channel_vectors() {
  return kRegisters >= 32 ? 4 : M == 1 ? 4 : M == 2 ? 2 : 1;
}

template <class Rows>
static void mix_floats(const TileRun& values, const float* weights, std::size_t stride, int queries, float* out) {
  const int tiles = values.tiles();
  for (int t = 0; t < tiles; ++t) {
    const auto* v = reinterpret_cast<const typename Rows::T*>(values.codes[t]);
    const auto* later = reinterpret_cast<const typename Rows::T*>(values.codes[t + values.ahead]);
    const int first = t == 0 ? values.first : 0;
    const int last = t == tiles - 1 ? values.last - t * kTileRows : kTileRows;
    for_query_blocks(queries, [&]<int M>(int q) {
      constexpr int kVectors = channel_vectors<M>();
      const float* w = weights + q * stride + t * kTileRows;
      float* o = out + static_cast<std::ptrdiff_t>(q) * values.dim;
      int c = 0;
      for (; c + 16 * kVectors <= values.dim; c += 16 * kVectors)
        mix_tile<Rows, M, kVectors>(v + c, later + c, values.dim, w, stride, first, last, o + c);
      for (; c < values.dim; c += 16) mix_tile<Rows, M, 1>(v + c, later + c, values.dim, w, stride, first, last, o + c);
    });
  }
}

}  // namespace lamina::LAMINA_ISA
