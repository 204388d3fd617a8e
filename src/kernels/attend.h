// SPDX-License-Identifier: Apache-2.0
// The kernels of attention and of row encoding: one table for each instruction set. They see tiles (kv/bits/format.h)
// through lists of pointers and know nothing of segments, positions or blocks.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kv/bits/format.h"

namespace lamina {

constexpr int kMaxHeadDim = 512;  // a head's channels: kernels keep a few heads on the stack
constexpr int kScoreQueries = 4;  // queries that share one pass over the registers

// Rows [first, last) of consecutive tiles, row 0 being the first tile's first; 0 <= first < 16. Bytes of other rows are
// unspecified. `scales` is null where a format has none; tiles of one group by channel have the same.
struct TileRun {
  const std::byte* const* codes = nullptr;   // [tiles]
  const std::byte* const* scales = nullptr;  // [tiles]
  int first = 0, last = 0;
  int dim = 0;  // padded_dim(head_dim)
  // So many tiles before it is read a tile is asked for: codes and scales go on for as many, with what is read next.
  int ahead = 0;

  int tiles() const { return (last + kTileRows - 1) / kTileRows; }
};

// c[i][16 p + j] (+)= sum over k < depth of a[i * a_stride + k] * b[p * panel_stride + k * depth_stride + j], j < 16.
struct FloatProduct {
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  int rows = 0, panels = 0, depth = 0;
  std::size_t a_stride = 0, panel_stride = 0, depth_stride = 0, c_stride = 0;
  bool accumulate = false;
};

// Row i holds a running maximum, sum and output; its n new scores (a multiple of 16, possibly -inf) become weights
// exp(score - max), exactly 0 for -inf, and what was folded before fades to the new maximum. Start: -inf, 0, zeros.
struct Fold {
  float* scores = nullptr;  // [rows][stride]
  std::size_t stride = 0;
  int rows = 0, n = 0;
  float* max = nullptr;  // [rows]
  float* sum = nullptr;  // [rows]
  float* out = nullptr;  // [rows][dim]
  int dim = 0;
  bool coarse = false;  // weights that become bytes: to 3e-6
};

// The weights exp(score - lse[row]) of [rows][n] scores (n a multiple of 16; scores possibly -inf), of every step-th
// row, are added to sums[n], one row after the other, or sums[n] become the largest. far[row]: how many first columns
// of the row are added to far_sums[n] besides; null: none.
struct Weigh {
  const float* scores = nullptr;
  std::size_t stride = 0;
  int rows = 0, step = 1, n = 0;
  const float* lse = nullptr;
  float* sums = nullptr;
  bool most = false;
  const std::int32_t* far = nullptr;
  float* far_sums = nullptr;
};

// What one row folded in each of `parts` parts, `stride` floats apart, becomes one: out[dim] = sum of w out_p over
// sum of w sum_p with w = exp(max_p - max), in the order of the parts; 0 where nothing was folded.
struct Merged {
  const float *max = nullptr, *sum = nullptr, *out = nullptr;  // of the first part
  std::size_t stride = 0, parts = 0;
  float* to = nullptr;
  int dim = 0;
  bool wants_log = true;
};

// A block of rows as the queries of a prompt meet them: 8-bit codes, made once a step for all of its queries. Of tile
// t:
//   keys    [D/4][16 rows][4 channels], code + 128     values [16/4][D][4 rows], code
//   scales  [groups of kByteGroup channels][16 rows] float32 of each
// Keys and queries carry a Hadamard transform of `rotate` channels (1: none), which leaves their products as they are
// and spreads what few channels hold: without it codes of 8 bits cost SmolLM2 a KL divergence of 1.2e-4, with
// it 3.4e-5, and the mixtures 3.8e-5.
constexpr int kByteGroup = 64;
constexpr int byte_groups(int dim) { return (dim + kByteGroup - 1) / kByteGroup; }
constexpr int kByteBlockTiles = 8;  // tiles whose weights share a step
struct ByteRows {
  std::byte* base = nullptr;  // the first tile, 64-byte aligned
  int tiles = 0;              // of mixtures up to kByteBlockTiles
  int dim = 0;                // padded_dim(head_dim)
  int rotate = 1;

  static constexpr std::size_t tile_bytes(int dim) {
    return static_cast<std::size_t>(2 * kTileRows) * static_cast<std::size_t>(dim + 4 * byte_groups(dim));
  }
  std::byte* keys(int tile) const { return base + static_cast<std::size_t>(tile) * tile_bytes(dim); }
  std::byte* values(int tile) const { return keys(tile) + static_cast<std::ptrdiff_t>(kTileRows) * dim; }
  float* key_scales(int tile) const {
    return reinterpret_cast<float*>(values(tile) + static_cast<std::ptrdiff_t>(kTileRows) * dim);
  }
  float* value_scales(int tile) const {
    return key_scales(tile) + static_cast<std::ptrdiff_t>(byte_groups(dim)) * kTileRows;
  }
  ByteRows part(int first, int count) const { return {keys(first), count, dim, rotate}; }
};
struct ByteQueries {
  int rows = 0, dim = 0, rotate = 1;
  std::int8_t* codes = nullptr;     // [rows][dim]
  float* scales = nullptr;          // [rows][groups]
  std::int32_t* offsets = nullptr;  // [rows][groups]  undo the keys' 128

  ByteQueries part(int first, int count) const {
    const std::ptrdiff_t groups = byte_groups(dim);
    return {count, dim, rotate, codes + std::ptrdiff_t{first} * dim, scales + first * groups, offsets + first * groups};
  }
};

struct AttendKernels {
  // scores[i * stride + row] = dot(q[i * dim ...], key row), for all rows of the run's tiles: those outside
  // [first, last) are garbage. Codes meet the query as 16-bit integers; where scales are by channel, they are folded
  // into it once for each group of rows.
  void (*score[kFormats])(const TileRun& keys, const float* q, int queries, float* scores, std::size_t stride);
  // out[i * dim + c] += sum over rows of weights[i * stride + row] * value[row][c]. Weights are >= 0, those outside
  // [first, last) are ignored. Codes meet the weights as 14-bit integers. Null where scales are by channel.
  void (*mix[kFormats])(const TileRun& values, const float* weights, std::size_t stride, int queries, float* out);
  // One step of an online softmax: see Fold.
  void (*fold)(const Fold& fold);
  // The parts of a fold: see Merged. Returns log(sum of exp(score)) if wanted, -inf where there was none.
  float (*merge)(const Merged& merged);
  // What queries give rows: see Weigh.
  void (*weigh)(const Weigh& weigh);
  // to[n] += scale * x[n], n a multiple of 16.
  void (*add_scaled)(const float* x, float scale, int n, float* to);
  // x[row] *= gains[row / 16][row % 16] (f16) for the rows of `tiles` tiles.
  void (*apply_gains)(const std::byte* const* gains, int tiles, float* x);

  // Whole tiles as float32: keys [tile][dim][16], values [tile][16][dim]. Value rows outside [first, last) are zero.
  void (*unpack_keys[kFormats])(const TileRun& keys, float* out);
  void (*unpack_values[kFormats])(const TileRun& values, float* out);
  void (*product)(const FloatProduct& product);

  // Rows and queries as bytes. Keys [tile][dim][16] are overwritten; values [tile][16][dim].
  void (*bytes_of_keys)(float* k, const ByteRows& to);
  void (*bytes_of_values)(const float* v, const ByteRows& to);
  void (*bytes_of_queries)(const float* q, const ByteQueries& to);
  // scores[i * stride + row] = dot(query i, key row)
  void (*score_bytes)(const ByteRows& keys, const ByteQueries& q, float* scores, std::size_t stride);
  // out[i * dim + c] += sum over rows of weights[i * stride + row] * value[row][c], weights in 255 steps.
  void (*mix_bytes)(const ByteRows& values, const float* weights, std::size_t stride, int queries, float* out);
  bool fast_bytes;  // whether that is faster than products of floats

  // Rows; n is a multiple of 16. Values beyond the range of a 16-bit float are clamped to it.
  void (*to_f16)(const float* x, int n, std::uint16_t* out);
  void (*to_bf16)(const float* x, int n, std::uint16_t* out);
  void (*from_f16)(const std::uint16_t* x, int n, float* out);
  // codes[n] = round(x / scale) within +-limit, one f16 scale for each group of 32: format.h.
  void (*quantise)(const float* x, int n, int limit, std::int8_t* codes, std::uint16_t* scales);
  // codes[n] = round((x - least) / scale) within 0 and limit, for each group of 32. n: any; codes up to a multiple of
  // 16 are written.
  void (*quantise_asym)(const float* x, int n, int limit, std::int8_t* codes, std::uint16_t* scales,
                        std::uint16_t* minima);
  // The same of x [rows][n], n a multiple of 16, with a scale and a minimum for each of the n channels.
  void (*quantise_channels)(const float* x, int rows, int n, int limit, std::int8_t* codes, std::uint16_t* scales,
                            std::uint16_t* minima);
};

const AttendKernels& attend_kernels(Isa isa);  // the Isa must be supported

namespace scalar {
extern const AttendKernels kAttendKernels;
}
namespace avx2 {
extern const AttendKernels kAttendKernels;
}
namespace avx512 {
extern const AttendKernels kAttendKernels;
}

}  // namespace lamina
