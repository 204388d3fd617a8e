// SPDX-License-Identifier: Apache-2.0
// The rest of attention's kernels: softmax, tiles as float32 and products of them for prompts, rows on their way into
// tiles, and the table.
#include "kernels/attend.h"

namespace lamina::LAMINA_ISA {

// ---- softmax --------------------------------------------------------------------------------------------------------

constexpr float kLog2E = 1.44269504F;

template <bool kCoarse>
static inline void fold_row(float* x, int n, float& max_so_far, float& sum, float* out, int dim) {
  F32 top = splat(max_so_far);
  for (int i = 0; i < n; i += 16) top = max(top, load(x + i));
  const float new_max = hmax(top);
  const F32 shift = splat(new_max == -__builtin_inff() ? 0.0F : new_max);  // nothing visible: exp(-inf) = 0
  const F32 shift2 = splat(-kLog2E) * shift;
  F32 added = zero();
  for (int i = 0; i < n; i += 16) {
    const F32 weight = kCoarse ? coarse_exp2(fma(load(x + i), splat(kLog2E), shift2)) : exp(load(x + i) - shift);
    store(x + i, weight);
    added = added + weight;
  }
  float fade = 1;
  if (new_max != max_so_far) {
    const F32 faded = exp(splat(max_so_far) - shift);
    for (int c = 0; c < dim; c += 16) store(out + c, load(out + c) * faded);
    fade = hmax(faded);
  }
  sum = sum * fade + hsum(added);
  max_so_far = new_max;
}

static void fold(const Fold& f) {
  const auto row = f.coarse ? fold_row<true> : fold_row<false>;
  for (int i = 0; i < f.rows; ++i)
    row(f.scores + i * f.stride, f.n, f.max[i], f.sum[i], f.out + static_cast<std::ptrdiff_t>(i) * f.dim, f.dim);
}

static float merge(const Merged& m) {
  const auto log_of = [&](float sum) { return m.wants_log ? __builtin_logf(sum) : 0; };
  float max = -__builtin_inff(), sum = 0;
  for (std::size_t p = 0; p < m.parts; ++p) max = m.max[p * m.stride] > max ? m.max[p * m.stride] : max;
  for (int c = 0; c < m.dim; c += 16) store(m.to + c, zero());
  if (max == -__builtin_inff()) return max;
  if (m.parts == 1) {  // the same numbers
    const F32 factor = splat(1 / *m.sum);
    for (int c = 0; c < m.dim; c += 16) store(m.to + c, load(m.out + c) * factor);
    return max + log_of(*m.sum);
  }
  for (std::size_t first = 0; first < m.parts; first += 16) {
    const std::size_t n = m.parts - first < 16 ? m.parts - first : 16;
    float weights[16] = {};
    for (std::size_t i = 0; i < n; ++i) weights[i] = m.max[(first + i) * m.stride] - max;
    store(weights, exp(load(weights)));
    for (std::size_t i = 0; i < n; ++i) sum += weights[i] * m.sum[(first + i) * m.stride];
    for (int c = 0; c < m.dim; c += 16) {
      F32 out = load(m.to + c);
      for (std::size_t i = 0; i < n; ++i) out = fma(splat(weights[i]), load(m.out + (first + i) * m.stride + c), out);
      store(m.to + c, out);
    }
  }
  const F32 factor = splat(1 / sum);
  for (int c = 0; c < m.dim; c += 16) store(m.to + c, load(m.to + c) * factor);
  return max + log_of(sum);
}

// Columns [column, column + 16 V) of all rows.
template <int V>
static inline void weigh_columns(const Weigh& w, int column) {
  F32 sums[V], far_sums[V];
  for (int v = 0; v < V; ++v) sums[v] = load(w.sums + column + 16 * v), far_sums[v] = zero();
  for (int v = 0; v < V && w.far; ++v) far_sums[v] = load(w.far_sums + column + 16 * v);
  for (int row = 0; row < w.rows; row += w.step) {
    const float* const scores = w.scores + static_cast<std::size_t>(row) * w.stride + column;
    const F32 shift = splat(w.lse[row]);
    for (int v = 0; v < V; ++v) {
      const F32 weight = exp(load(scores + 16 * v) - shift);
      sums[v] = w.most ? max(sums[v], weight) : sums[v] + weight;
      if (!w.far) continue;
      const int far = w.far[row] - column - 16 * v;
      far_sums[v] = far_sums[v] + first_n(weight, far < 0 ? 0 : far > 16 ? 16 : far, zero());
    }
  }
  for (int v = 0; v < V; ++v) store(w.sums + column + 16 * v, sums[v]);
  for (int v = 0; v < V && w.far; ++v) store(w.far_sums + column + 16 * v, far_sums[v]);
}

static void weigh(const Weigh& w) {
  constexpr int kVectors = kRegisters >= 32 ? 4 : 1;
  int column = 0;
  for (; column + 16 * kVectors <= w.n; column += 16 * kVectors) weigh_columns<kVectors>(w, column);
  for (; column < w.n; column += 16) weigh_columns<1>(w, column);
}

static void add_scaled(const float* x, float scale, int n, float* to) {
  for (int i = 0; i < n; i += 16) store(to + i, fma(splat(scale), load(x + i), load(to + i)));
}

static void apply_gains(const std::byte* const* gains, int tiles, float* x) {
  for (int t = 0; t < tiles; ++t, x += kTileRows)
    store(x, load(x) * load_f16(reinterpret_cast<const std::uint16_t*>(gains[t])));
}

// ---- tiles as float32 -----------------------------------------------------------------------------------------------

template <class Rows>
static void unpack_float_keys(const TileRun& keys, float* out) {
  for (int t = 0; t < keys.tiles(); ++t) {
    const auto* k = reinterpret_cast<const typename Rows::T*>(keys.codes[t]);
    for (int c = 0; c < keys.dim; ++c, k += kTileRows, out += kTileRows) store(out, Rows::load16(k));
  }
}

template <class Rows>
static void unpack_float_values(const TileRun& values, float* out) {
  for (int t = 0; t < values.tiles(); ++t) {
    const auto* v = reinterpret_cast<const typename Rows::T*>(values.codes[t]);
    for (int r = 0; r < kTileRows; ++r) {
      const int row = t * kTileRows + r;
      const bool used = row >= values.first && row < values.last;
      for (int c = 0; c < values.dim; c += 16, v += 16, out += 16) store(out, used ? Rows::load16(v) : zero());
    }
  }
}

// A dot product with one of these picks one of the four bytes, or the two words, of each lane.
alignas(16) constexpr std::uint8_t kPickByte[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
alignas(8) constexpr std::int16_t kPickWord[4] = {1, 0, 0, 1};

// What the code of a channel is multiplied by, and what is added, for 16 rows.
template <class Keys>
static inline void unpack_key_channels(Bytes stored, const F32* scale, const F32* least, float* out) {
  for (int i = 0; i < Keys::kParts; ++i)
    for (int j = 0; j < 4; ++j, out += kTileRows) {
      const Bytes part = Keys::part(stored, i), words = j % 2 == 0 ? even_bytes(part) : odd_bytes(part);
      const I32 code = dot2(splat_i32(-Keys::kOffset), words, splat4(kPickWord + j / 2 * 2));
      const int c = Keys::kByChannel ? 4 * i + j : 0;
      store(out, least ? fma(to_f32(code), scale[c], least[c]) : to_f32(code) * scale[c]);
    }
}

template <class Keys>
static void unpack_code_keys(const TileRun& keys, float* out) {
  const int groups = groups_of(keys.dim);
  for (int t = 0; t < keys.tiles(); ++t) {
    const std::byte* codes = keys.codes[t];
    const auto* scales = reinterpret_cast<const std::uint16_t*>(keys.scales[t]);
    for (int c = 0; c < keys.dim; c += Keys::kChannels, codes += 64, out += Keys::kChannels * kTileRows) {
      const int group = c / kScaleGroup;
      F32 scale[16], least[16];
      if constexpr (Keys::kByChannel) {
        float halves[2][16];
        store(halves[0], load_f16(scales + c / 16 * 16));
        store(halves[1], load_f16(scales + keys.dim + c / 16 * 16));
        for (int i = 0; i < Keys::kChannels; ++i)
          scale[i] = splat(halves[0][c % 16 + i]), least[i] = splat(halves[1][c % 16 + i]);
      } else {
        scale[0] = load_f16(scales + group * kTileRows);
        if (Keys::kMinima) least[0] = load_f16(scales + (groups + group) * kTileRows);
      }
      const bool lifted = Keys::kMinima || Keys::kByChannel;
      unpack_key_channels<Keys>(load_bytes(codes), scale, lifted ? least : nullptr, out);
    }
  }
}

template <class Values>
static void unpack_code_values(const TileRun& values, float* out) {
  const int groups = groups_of(values.dim);
  for (int t = 0; t < values.tiles(); ++t, out += static_cast<std::ptrdiff_t>(kTileRows) * values.dim) {
    for (int c = 0; c < values.dim; c += 16) {
      const auto* scales = reinterpret_cast<const std::uint16_t*>(values.scales[t]) + c / kScaleGroup * kTileRows;
      float scale[kTileRows], least[kTileRows] = {};
      store(scale, load_f16(scales));
      if (Values::kMinima) store(least, load_f16(scales + static_cast<std::ptrdiff_t>(groups) * kTileRows));
      for (int r = 0; r < kTileRows; r += 4) {
        const std::byte* codes =
            values.codes[t] + (static_cast<std::ptrdiff_t>(r / Values::kRows) * values.dim + c) * 4;
        const Bytes part = Values::part(load_bytes(codes), r / 4 % Values::kParts);
        for (int j = 0; j < 4; ++j) {
          const int row = t * kTileRows + r + j;
          const F32 code = to_f32(dot4_small(splat_i32(-Values::kOffset), splat4(kPickByte + 4 * j), part));
          const bool used = row >= values.first && row < values.last;
          const F32 x =
              Values::kMinima ? fma(code, splat(scale[r + j]), splat(least[r + j])) : code * splat(scale[r + j]);
          store(out + static_cast<std::ptrdiff_t>(r + j) * values.dim + c, used ? x : zero());
        }
      }
    }
  }
}

// ---- products -------------------------------------------------------------------------------------------------------

constexpr int kProductRows = 6;
constexpr int kProductPanels = kRegisters >= 32 ? 4 : 1;  // 6 x 4 sums + 4 operands, or 6 x 1 in 8 double registers

template <int R, int P>
static inline void product_block(const FloatProduct& p, const float* a, const float* b, float* c) {
  F32 sum[R][P];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < P; ++n) sum[r][n] = p.accumulate ? load(c + r * p.c_stride + 16 * n) : zero();
  for (int k = 0; k < p.depth; ++k, b += p.depth_stride) {
    F32 x[P];
#pragma GCC unroll 4
    for (int n = 0; n < P; ++n) x[n] = load(b + n * p.panel_stride);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const F32 y = splat(a[r * p.a_stride + k]);
#pragma GCC unroll 4
      for (int n = 0; n < P; ++n) sum[r][n] = fma(y, x[n], sum[r][n]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < P; ++n) store(c + r * p.c_stride + 16 * n, sum[r][n]);
}

template <int P>
static inline void product_rows(const FloatProduct& p, const float* b, float* c) {
  int r = 0;
  for (; r + kProductRows <= p.rows; r += kProductRows)
    product_block<kProductRows, P>(p, p.a + r * p.a_stride, b, c + r * p.c_stride);
  for (; r + 2 <= p.rows; r += 2) product_block<2, P>(p, p.a + r * p.a_stride, b, c + r * p.c_stride);
  if (r < p.rows) product_block<1, P>(p, p.a + r * p.a_stride, b, c + r * p.c_stride);
}

static void product(const FloatProduct& p) {
  int panel = 0;
  for (; panel + kProductPanels <= p.panels; panel += kProductPanels)
    product_rows<kProductPanels>(p, p.b + panel * p.panel_stride, p.c + panel * 16);
  for (; panel < p.panels; ++panel) product_rows<1>(p, p.b + panel * p.panel_stride, p.c + panel * 16);
}

// ---- rows on their way into tiles -----------------------------------------------------------------------------------

constexpr float kF16Max = 65504.0F, kBF16Max = 0x1.fep127F;
static inline F32 clamp(F32 x, float limit) { return max(min(x, splat(limit)), splat(-limit)); }

static void to_f16(const float* x, int n, std::uint16_t* out) {
  for (int i = 0; i < n; i += 16) store_f16(out + i, clamp(load(x + i), kF16Max));
}
static void to_bf16(const float* x, int n, std::uint16_t* out) {
  for (int i = 0; i < n; i += 16) store_bf16(out + i, clamp(load(x + i), kBF16Max));
}
static void from_f16(const std::uint16_t* x, int n, float* out) {
  for (int i = 0; i < n; i += 16) store(out + i, load_f16(x + i));
}

static void quantise(const float* x, int n, int limit, std::int8_t* codes, std::uint16_t* scales) {
  std::uint16_t halves[16];
  float rounded[16];
  for (int group = 0; group < n; group += kScaleGroup, ++scales) {
    const int end = n - group < kScaleGroup ? n : group + kScaleGroup;
    F32 largest = zero();
    for (int i = group; i < end; i += 16) largest = max(largest, abs(load(x + i)));
    store_f16(halves, clamp(splat(hmax(largest) / static_cast<float>(limit)), kF16Max));
    store(rounded, load_f16(halves));
    *scales = halves[0];
    const F32 inverse = splat(rounded[0] > 0 ? 1.0F / rounded[0] : 0.0F);
    for (int i = group; i < end; i += 16)
      store_i8(codes + i, round_i32(clamp(load(x + i) * inverse, static_cast<float>(limit))));
  }
}

// x within its group: the smallest as an f16 and the rest in steps of an f16 scale.
struct Steps {
  F32 least, step;
};
static inline Steps steps_of(F32 least, F32 most, int limit, std::uint16_t* minima, std::uint16_t* scales) {
  store_f16(minima, clamp(least, kF16Max));
  store_f16(scales, clamp((most - least) / splat(static_cast<float>(limit)), kF16Max));
  alignas(64) float step[16];
  store(step, load_f16(scales));
  for (float& x : step) x = x > 0 ? x : __builtin_inff();  // a group of one number has codes of 0
  return {load_f16(minima), load(step)};
}
static inline I32 code_of(F32 x, const Steps& steps, int limit) {
  return round_i32(max(zero(), min((x - steps.least) / steps.step, splat(static_cast<float>(limit)))));
}

static void quantise_asym(const float* x, int n, int limit, std::int8_t* codes, std::uint16_t* scales,
                          std::uint16_t* minima) {
  std::uint16_t least[16], step[16];
  for (int group = 0; group < n; group += kScaleGroup, ++scales, ++minima) {
    const int end = n - group < kScaleGroup ? n : group + kScaleGroup;
    const F32 any = splat(x[group]);  // stands for lanes beyond the end
    F32 lowest = any, highest = any, part[2];
    for (int i = group, v = 0; i < end; i += 16, ++v) {
      part[v] = end - i < 16 ? first_n(load_n(x + i, end - i), end - i, any) : load(x + i);
      lowest = min(lowest, part[v]);
      highest = max(highest, part[v]);
    }
    const Steps steps = steps_of(splat(-hmax(zero() - lowest)), splat(hmax(highest)), limit, least, step);
    *scales = step[0];
    *minima = least[0];
    for (int i = group, v = 0; i < end; i += 16, ++v) store_i8(codes + i, code_of(part[v], steps, limit));
  }
}

static void quantise_channels(const float* x, int rows, int n, int limit, std::int8_t* codes, std::uint16_t* scales,
                              std::uint16_t* minima) {
  for (int c = 0; c < n; c += 16) {
    F32 lowest = load(x + c), highest = lowest;
    for (int r = 1; r < rows; ++r) {
      const F32 row = load(x + static_cast<std::ptrdiff_t>(r) * n + c);
      lowest = min(lowest, row);
      highest = max(highest, row);
    }
    const Steps steps = steps_of(lowest, highest, limit, minima + c, scales + c);
    for (int r = 0; r < rows; ++r) {
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(r) * n + c;
      store_i8(codes + at, code_of(load(x + at), steps, limit));
    }
  }
}

const AttendKernels kAttendKernels = {
    .score = {score_floats<RowsF32>, score_floats<RowsF16>, score_floats<RowsBF16>, score_codes<KeysInt8>,
              score_codes<KeysInt4>, score_codes<KeysAsym4>, score_codes<KeysAsym2>, score_codes<ByChannel<KeysAsym4>>,
              score_codes<ByChannel<KeysAsym2>>},
    .mix = {mix_floats<RowsF32>, mix_floats<RowsF16>, mix_floats<RowsBF16>, mix_codes<ValuesInt8>,
            mix_codes<ValuesInt4>, mix_codes<ValuesAsym4>, mix_codes<ValuesAsym2>, nullptr, nullptr},
    .fold = fold,
    .merge = merge,
    .weigh = weigh,
    .add_scaled = add_scaled,
    .apply_gains = apply_gains,
    .unpack_keys = {unpack_float_keys<RowsF32>, unpack_float_keys<RowsF16>, unpack_float_keys<RowsBF16>,
                    unpack_code_keys<KeysInt8>, unpack_code_keys<KeysInt4>, unpack_code_keys<KeysAsym4>,
                    unpack_code_keys<KeysAsym2>, unpack_code_keys<ByChannel<KeysAsym4>>,
                    unpack_code_keys<ByChannel<KeysAsym2>>},
    .unpack_values = {unpack_float_values<RowsF32>, unpack_float_values<RowsF16>, unpack_float_values<RowsBF16>,
                      unpack_code_values<ValuesInt8>, unpack_code_values<ValuesInt4>, unpack_code_values<ValuesAsym4>,
                      unpack_code_values<ValuesAsym2>, nullptr, nullptr},
    .product = product,
    .bytes_of_keys = bytes_of_keys,
    .bytes_of_values = bytes_of_values,
    .bytes_of_queries = bytes_of_queries,
    .score_bytes = score_bytes,
    .mix_bytes = mix_bytes,
    .fast_bytes = kFastDot4,
    .to_f16 = to_f16,
    .to_bf16 = to_bf16,
    .from_f16 = from_f16,
    .quantise = quantise,
    .quantise_asym = quantise_asym,
    .quantise_channels = quantise_channels,
};

}  // namespace lamina::LAMINA_ISA
