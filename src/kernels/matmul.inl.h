// SPDX-License-Identifier: Apache-2.0
// Products of packed weights (kernels.h: WeightFormat) with tiles of input rows. A kernel holds the sums of P panels
// times N rows in registers and walks along the columns once.
//
// oneDNN 2.6.3 is not used: 512 rows, 1536 x 576 weights, two threads of Zen 5 (peak 2150 GOP/s): 608 GOP/s where each
// 32 columns have a scale, by a product for each that adds to the result, 2040 without scales; these kernels 1406 with.
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

template <WeightFormat kFormat, bool kFine>
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

// Integer sums of one block.
template <int P, int N>
struct BlockSums {
  I32 v[P][N];

  inline void clear() {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) v[p][n] = zero_i32();
  }
  inline void add(const BlockSums& other) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) v[p][n] = v[p][n] + other.v[p][n];
  }
  inline void shift() {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) v[p][n] = shift_left<7>(v[p][n]);
  }
};

// The block's codes times one digit of the inputs: codes[N][2][32].
template <WeightFormat kFormat, int P, int N>
static inline void add_dots(const Cursor<P>& at, const std::int8_t* codes, BlockSums<P, N>& acc) {
  constexpr bool kW4 = kFormat == WeightFormat::kW4;
  for (int word = 0; word < (kW4 ? 4 : 8); ++word) {
    Bytes w[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) w[p] = load_bytes(at.weights[p] + (kW4 ? 64 : 32) + 64 * word);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Bytes value = splat4(codes + n * 2 * kBlockCols + 4 * word);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p)
        acc.v[p][n] = kW4 ? dot4_small(acc.v[p][n], low_nibbles(w[p]), value) : dot4(acc.v[p][n], w[p], value);
    }
    if constexpr (!kW4) continue;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Bytes value = splat4(codes + n * 2 * kBlockCols + 16 + 4 * word);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) acc.v[p][n] = dot4_small(acc.v[p][n], high_nibbles(w[p]), value);
    }
  }
}

// Both digits at once, high and low: half as many weights are unpacked, and twice as many sums wait for each other
// less.
template <WeightFormat kFormat, int P, int N>
static inline void add_both_dots(const Cursor<P>& at, const std::int8_t* codes, BlockSums<P, N>& high,
                                 BlockSums<P, N>& low) {
  constexpr bool kW4 = kFormat == WeightFormat::kW4;
  for (int word = 0; word < (kW4 ? 4 : 8); ++word)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Bytes w = load_bytes(at.weights[p] + (kW4 ? 64 : 32) + 64 * word);
      for (int half = 0; half < (kW4 ? 2 : 1); ++half) {
        const Bytes part = !kW4 ? w : half == 0 ? low_nibbles(w) : high_nibbles(w);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const std::int8_t* const x = codes + n * 2 * kBlockCols + 16 * half + 4 * word;
          const Bytes first = splat4(x), second = splat4(x + kBlockCols);
          high.v[p][n] = kW4 ? dot4_small(high.v[p][n], part, first) : dot4(high.v[p][n], part, first);
          low.v[p][n] = kW4 ? dot4_small(low.v[p][n], part, second) : dot4(low.v[p][n], part, second);
        }
      }
    }
}

template <bool kFine, WeightFormat kFormat>
struct IntegerStep {
  // Two sums for each product of a block and one of floats are in registers at once.
  static constexpr int kMostBoth = kRegisters >= 32 ? 4 : 1;

  template <int P, int N>
  static inline void add(const Cursor<P>& at, const InputTile& x, Sums<P, N>& sums) {
    const std::int8_t* const codes = x.codes + at.input * 2 * kBlockCols;
    BlockSums<P, N> acc;
    acc.clear();
    if constexpr (kFine && N <= kMostBoth) {
      BlockSums<P, N> low;
      low.clear();
      add_both_dots<kFormat>(at, codes, acc, low);
      acc.shift();
      acc.add(low);
    } else {
      add_dots<kFormat>(at, codes, acc);
      if constexpr (kFine) {
        acc.shift();
        add_dots<kFormat>(at, codes + kBlockCols, acc);
      }
    }
    add_scaled(at, acc, x.offsets, x.scales, 1, sums, at.input);
    if constexpr (kFormat != WeightFormat::kW4) return;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const F32 min = load_half(at.weights[p] + 32);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums.v[p][n] = fma(min, splat(x.sums[at.input + n]), sums.v[p][n]);
    }
  }

  // The second digits of a block in which a coarse row stands out.
  template <int P, int N>
  static inline void add_low(const Cursor<P>& at, const InputTile& x, Sums<P, N>& sums) {
    BlockSums<P, N> acc;
    acc.clear();
    add_dots<kFormat>(at, x.codes + (at.input * 2 + 1) * kBlockCols, acc);
    add_scaled(at, acc, x.low_offsets, x.scales, 1.0F / 128, sums, at.input);
  }

  template <int P, int N>
  static inline void add_scaled(const Cursor<P>& at, const BlockSums<P, N>& acc, const std::int32_t* offsets,
                                const float* scales, float unit, Sums<P, N>& sums, std::ptrdiff_t input) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const F32 scale = load_half(at.weights[p]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        I32 sum = acc.v[p][n];
        if constexpr (kFormat == WeightFormat::kW8) sum = sum + splat_i32(offsets[input + n]);
        sums.v[p][n] = fma(to_f32(sum), scale * splat(scales[input + n] * unit), sums.v[p][n]);
      }
    }
  }
};
template <bool kFine>
struct Step<WeightFormat::kW8, kFine> : IntegerStep<kFine, WeightFormat::kW8> {};
template <bool kFine>
struct Step<WeightFormat::kW4, kFine> : IntegerStep<kFine, WeightFormat::kW4> {};

// Rows first .. first + N of the tile times P panels from `panel` on.
template <WeightFormat kFormat, bool kFine, int P, int N>
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
    Step<kFormat, kFine>::add(at, x, sums);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) at.weights[p] += kStep;
    at.input += x.rows;
  }
  if constexpr (is_integer(kFormat) && !kFine)
    for (int i = 0; i < *x.outliers; ++i) {
      const std::ptrdiff_t block = x.outliers[1 + i];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) at.weights[p] = w.bytes + (std::ptrdiff_t{panel + p} * w.steps + block) * kStep;
      at.input = block * x.rows + first;
      Step<kFormat, kFine>::add_low(at, x, sums);
    }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int row = (panel + p) * kPanelRows;
    const int lanes = w.rows - row < kPanelRows ? w.rows - row : kPanelRows;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) store_n(y + (first + n) * y_stride + row, sums.v[p][n], lanes);
  }
}

template <WeightFormat kFormat, bool kFine, int N>
static inline void multiply_rows(const Panels& w, const InputTile& x, int first, float* y, std::ptrdiff_t y_stride) {
  // One row of an integer format streams one panel after another; a float format needs several chains of additions.
  constexpr int kP = N == 1 ? (is_integer(kFormat) ? 1 : 4) : kMaxPanels;
  int panel = 0;
  for (; panel + kP <= w.panels; panel += kP) multiply_tile<kFormat, kFine, kP, N>(w, panel, x, first, y, y_stride);
  for (; panel < w.panels; ++panel) multiply_tile<kFormat, kFine, 1, N>(w, panel, x, first, y, y_stride);
}

template <WeightFormat kFormat, bool kFine, int N = kMaxRows>
static inline void multiply_at_most(int rows, const Panels& w, const InputTile& x, int first, float* y,
                                    std::ptrdiff_t y_stride) {
  if constexpr (N > 1)
    if (rows < N) return multiply_at_most<kFormat, kFine, N - 1>(rows, w, x, first, y, y_stride);
  multiply_rows<kFormat, kFine, N>(w, x, first, y, y_stride);
}

template <WeightFormat kFormat>
static void multiply(const Panels& w, const InputTile& x, float* y, std::ptrdiff_t y_stride) {
  for (int first = 0; first < x.rows; first += kMaxRows) {
    const int rows = x.rows - first < kMaxRows ? x.rows - first : kMaxRows;
    if (!is_integer(kFormat) || x.fine)
      multiply_at_most<kFormat, true>(rows, w, x, first, y, y_stride);
    else
      multiply_at_most<kFormat, !is_integer(kFormat)>(rows, w, x, first, y, y_stride);
  }
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

static inline float largest_of(const float* x) { return hmax(max(abs(load(x)), abs(load(x + 16)))); }
static inline F32 inverse_of(float largest, float limit) { return splat(largest > 1e-30F ? limit / largest : 0.0F); }

// What 128 added to each weight's code adds to a block's dot product is taken off again. Sums are below 2^20, but of
// inputs that are no numbers: of those the scale tells.
static inline std::int32_t offset_of(float sum) {
  return sum > -0x1p24F && sum < 0x1p24F ? static_cast<std::int32_t>(sum) * -128 : 0;
}

// One block of one row, at index i. Sums are of integers below 2^20: exact.
static inline void quantize_coarse(const float* x, std::ptrdiff_t i, const QuantizedTile& out) {
  const float largest = largest_of(x);
  const F32 inverse = inverse_of(largest, kCoarseLimit);
  const I32 first = round_i32(load(x) * inverse), second = round_i32(load(x + 16) * inverse);
  std::int8_t* const codes = out.codes + i * 2 * kBlockCols;
  store_i8(codes, first);
  store_i8(codes + 16, second);
  const float sum = hsum(to_f32(first + second));
  out.scales[i] = largest * (1 / kCoarseLimit);
  out.sums[i] = out.scales[i] * sum;
  out.offsets[i] = offset_of(sum);
}

// `apart`: the digits are multiplied one by one, in units of the high one, else together.
static inline void quantize_fine(const float* x, std::ptrdiff_t i, bool apart, const QuantizedTile& out) {
  const float largest = largest_of(x);
  const F32 inverse = inverse_of(largest, kFineLimit);
  std::int8_t* const codes = out.codes + i * 2 * kBlockCols;
  I32 sum = zero_i32(), high_sum = zero_i32();
  for (int h = 0; h < 2; ++h) {
    const I32 code = round_i32(load(x + 16 * h) * inverse);
    const I32 high = round_i32(to_f32(code) * splat(1.0F / 128));  // a tie leaves a low digit of -64 or 64
    store_i8(codes + 16 * h, high);
    store_i8(codes + kBlockCols + 16 * h, code - shift_left<7>(high));
    sum = sum + code;
    high_sum = high_sum + high;
  }
  const float step = largest / kFineLimit, total = hsum(to_f32(sum)), high = hsum(to_f32(high_sum));
  out.scales[i] = apart ? 128 * step : step;
  out.sums[i] = step * total;
  out.offsets[i] = offset_of(apart ? high : total);
  out.low_offsets[i] = offset_of(total - 128 * high);
}

// Blocks of coarse rows get their second digit where one row's scale stands out.
static inline void quantize_outliers(const float* x, std::ptrdiff_t x_stride, int blocks, const QuantizedTile& out) {
  float usual[kTileInputs];
  for (int row = 0; row < out.rows; ++row) {
    float squares = 0;
    for (int block = 0; block < blocks; ++block) {
      const float scale = out.scales[block * out.rows + row];
      squares += scale * scale;
    }
    usual[row] = kStandsOut * __builtin_sqrtf(squares / static_cast<float>(blocks));
  }
  int count = 0;
  for (int block = 0; block < blocks; ++block) {
    const std::ptrdiff_t first = std::ptrdiff_t{block} * out.rows;
    bool any = false;
    for (int row = 0; row < out.rows; ++row) any |= out.scales[first + row] > usual[row];
    if (!any) continue;
    out.outliers[1 + count++] = block;
    for (int row = 0; row < out.rows; ++row) {
      if (out.scales[first + row] > usual[row]) {
        quantize_fine(x + row * x_stride + block * kBlockCols, first + row, true, out);
        continue;
      }
      std::int8_t* const low = out.codes + ((first + row) * 2 + 1) * kBlockCols;
      store_i8(low, zero_i32());
      store_i8(low + 16, zero_i32());
      out.low_offsets[first + row] = 0;
    }
  }
  out.outliers[0] = count;
}

static void quantize(const float* x, std::ptrdiff_t x_stride, int blocks, const QuantizedTile& out) {
  for (int row = 0; row < out.rows; ++row)
    for (int block = 0; block < blocks; ++block) {
      const float* const from = x + row * x_stride + block * kBlockCols;
      const std::ptrdiff_t i = std::ptrdiff_t{block} * out.rows + row;
      if (out.fine)
        quantize_fine(from, i, false, out);
      else
        quantize_coarse(from, i, out);
    }
  if (!out.fine) quantize_outliers(x, x_stride, blocks, out);
}

}  // namespace lamina::LAMINA_ISA
