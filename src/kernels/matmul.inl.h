// SPDX-License-Identifier: Apache-2.0
// Products of packed weights (kernels.h: WeightFormat) with tiles of input rows. A kernel holds the sums of P panels
// times N rows in registers and walks along the columns once.
#include "kernels/kernels.h"

namespace lamina::LAMINA_ISA {

constexpr int kMaxPanels = kRegisters >= 32 ? 2 : 1;
constexpr int kMaxRows = kRegisters >= 32 ? kTileInputs : 3;
constexpr std::ptrdiff_t kPrefetchBytes = 2048;

template <int P, int N>
struct Sums {
  F32 v[P][N];  // [panel][input row], lanes are output rows
};

// Where a kernel stands: the same block (or column) of P panels, and of N rows of an input tile.
template <int P>
struct Cursor {
  const std::byte* weights[P];
  std::ptrdiff_t input;  // (block * R + first row): index into the tile's arrays
};

static inline F32 load_half(const std::byte* p) { return load_f16(reinterpret_cast<const std::uint16_t*>(p)); }

template <WeightFormat kFormat>
struct Step {  // one column of a float format
  static inline F32 weights(const std::byte* p) {
    if constexpr (kFormat == WeightFormat::kF32) return load(reinterpret_cast<const float*>(p));
    if constexpr (kFormat == WeightFormat::kF16) return load_half(p);
    return load_bf16(reinterpret_cast<const std::uint16_t*>(p));
  }

  template <int P, int N>
  static inline void add(const Cursor<P>& at, const InputTile& x, Sums<P, N>& sums) {
    F32 w[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) w[p] = weights(at.weights[p]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const F32 value = splat(x.values[at.input + n]);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sums.v[p][n] = fma(w[p], value, sums.v[p][n]);
    }
  }
};

// The integer sums of one block: first the inputs' high bytes, times 128, then their low bytes.
template <int P, int N>
struct BlockSums {
  I32 v[P][N];

  inline void clear() {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) v[p][n] = zero_i32();
  }
  inline void shift() {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) v[p][n] = shift_left<7>(v[p][n]);
  }
};

template <>
struct Step<WeightFormat::kW8> {
  template <int P, int N>
  static inline void add(const Cursor<P>& at, const InputTile& x, Sums<P, N>& sums) {
    BlockSums<P, N> acc;
    acc.clear();
    for (int part = 0; part < kInputBytes; ++part) {
      const std::int8_t* codes = x.codes + (at.input * kInputBytes + part) * kBlockCols;
      if (part > 0) acc.shift();
      for (int word = 0; word < 8; ++word) {
        Bytes w[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) w[p] = load_bytes(at.weights[p] + 32 + 64 * word);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const Bytes value = splat4(codes + n * kInputBytes * kBlockCols + 4 * word);
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) acc.v[p][n] = dot4(acc.v[p][n], w[p], value);
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const F32 scale = load_half(at.weights[p]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n)
        sums.v[p][n] = fma(to_f32(acc.v[p][n] + splat_i32(x.offsets[at.input + n])),
                           scale * splat(x.scales[at.input + n]), sums.v[p][n]);
    }
  }
};

template <>
struct Step<WeightFormat::kW4> {
  template <int P, int N>
  static inline void add(const Cursor<P>& at, const InputTile& x, Sums<P, N>& sums) {
    BlockSums<P, N> acc;
    acc.clear();
    for (int part = 0; part < kInputBytes; ++part) {
      const std::int8_t* codes = x.codes + (at.input * kInputBytes + part) * kBlockCols;
      if (part > 0) acc.shift();
      for (int word = 0; word < 4; ++word) {
        Bytes both[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) both[p] = load_bytes(at.weights[p] + 64 + 64 * word);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const Bytes value = splat4(codes + n * kInputBytes * kBlockCols + 4 * word);
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) acc.v[p][n] = dot4_small(acc.v[p][n], low_nibbles(both[p]), value);
        }
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const Bytes value = splat4(codes + n * kInputBytes * kBlockCols + 16 + 4 * word);
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) acc.v[p][n] = dot4_small(acc.v[p][n], high_nibbles(both[p]), value);
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const F32 scale = load_half(at.weights[p]);
      const F32 min = load_half(at.weights[p] + 32);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        sums.v[p][n] = fma(to_f32(acc.v[p][n]), scale * splat(x.scales[at.input + n]), sums.v[p][n]);
        sums.v[p][n] = fma(min, splat(x.sums[at.input + n]), sums.v[p][n]);
      }
    }
  }
};

// Rows first .. first + N of the tile times P panels from `panel` on.
template <WeightFormat kFormat, int P, int N>
static inline void multiply_tile(const Panels& w, int panel, const InputTile& x, int first, float* y,
                                 std::ptrdiff_t y_stride) {
  constexpr std::ptrdiff_t kStep = step_bytes(kFormat);
  Cursor<P> at;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) at.weights[p] = w.bytes + (panel + p) * kStep * w.steps;
  at.input = first;
  Sums<P, N> sums;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sums.v[p][n] = zero();
  // Few rows wait for memory anyway and the machine's own prefetcher does better (Zen 5: one row 39.0 GB/s without and
  // 37.8 with; six rows 12 and 28); weights that an earlier tile has read are in the cache.
  const bool prefetches = N > 2 && w.cold && first == 0;
  for (int step = 0; step < w.steps; ++step) {
    if (prefetches)
      for (std::ptrdiff_t line = 0; line < kStep; line += 64)
        for (int p = 0; p < P; ++p) prefetch(at.weights[p] + kPrefetchBytes + line);
    Step<kFormat>::add(at, x, sums);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) at.weights[p] += kStep;
    at.input += x.rows;
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int row = (panel + p) * kPanelRows;
    const int lanes = w.rows - row < kPanelRows ? w.rows - row : kPanelRows;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) store_n(y + (first + n) * y_stride + row, sums.v[p][n], lanes);
  }
}

template <WeightFormat kFormat, int N>
static inline void multiply_rows(const Panels& w, const InputTile& x, int first, float* y, std::ptrdiff_t y_stride) {
  // One row of an integer format streams one panel after another; a float format needs several chains of additions.
  constexpr int kP = N == 1 ? (is_integer(kFormat) ? 1 : 4) : kMaxPanels;
  int panel = 0;
  for (; panel + kP <= w.panels; panel += kP) multiply_tile<kFormat, kP, N>(w, panel, x, first, y, y_stride);
  for (; panel < w.panels; ++panel) multiply_tile<kFormat, 1, N>(w, panel, x, first, y, y_stride);
}

template <WeightFormat kFormat, int N = kMaxRows>
static inline void multiply_at_most(int rows, const Panels& w, const InputTile& x, int first, float* y,
                                    std::ptrdiff_t y_stride) {
  if constexpr (N > 1)
    if (rows < N) return multiply_at_most<kFormat, N - 1>(rows, w, x, first, y, y_stride);
  multiply_rows<kFormat, N>(w, x, first, y, y_stride);
}

template <WeightFormat kFormat>
static void multiply(const Panels& w, const InputTile& x, float* y, std::ptrdiff_t y_stride) {
  for (int first = 0; first < x.rows; first += kMaxRows)
    multiply_at_most<kFormat>(x.rows - first < kMaxRows ? x.rows - first : kMaxRows, w, x, first, y, y_stride);
}

static void quantize(const float* x, std::ptrdiff_t x_stride, int rows, int blocks, const QuantizedTile& out) {
  for (int block = 0; block < blocks; ++block)
    for (int row = 0; row < rows; ++row) {
      const float* p = x + row * x_stride + block * kBlockCols;
      const F32 half[2] = {load(p), load(p + 16)};
      const float largest = hmax(max(abs(half[0]), abs(half[1])));
      const F32 inverse = splat(largest > 1e-30F ? kInputLimit / largest : 0.0F);
      const std::ptrdiff_t i = std::ptrdiff_t{block} * rows + row;
      std::int8_t* codes = out.codes + i * kInputBytes * kBlockCols;
      I32 sum = zero_i32();
      for (int h = 0; h < 2; ++h) {
        const I32 code = round_i32(half[h] * inverse);
        const I32 high = round_i32(to_f32(code) * splat(1.0F / 128));  // a tie leaves a low byte of -64 or 64
        store_i8(codes + 16 * h, high);
        store_i8(codes + kBlockCols + 16 * h, code - shift_left<7>(high));
        sum = sum + code;
      }
      const float total = hsum(to_f32(sum));  // of integers below 2^20: exact
      out.scales[i] = largest / kInputLimit;
      out.sums[i] = out.scales[i] * total;
      out.offsets[i] = static_cast<std::int32_t>(total) * -128;
    }
}

}  // namespace lamina::LAMINA_ISA
