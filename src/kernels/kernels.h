// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set as a table of functions, and the run-time choice between the tables.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lamina {

enum class Isa : std::uint8_t { kScalar, kAvx2, kAvx512 };
constexpr Isa kAllIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512};

const char* name(Isa isa);  // "scalar", "avx2", "avx512"
bool supported(Isa isa);    // by this build and this processor
// The best supported one, or what the environment variable LAMINA_ISA names; Error if that is unknown or unsupported.
Isa chosen_isa();

// How a packed matrix stores its weights (see model/matrix.h). Rows of the matrix, which are outputs, form panels of
// 16, one lane each; a panel's bytes are one stream, in the order in which a product reads them:
//   kF32 kF16 kBF16  [column][16 rows]
//   kW8              [block of 32 columns]{ scale f16 [16 rows]; codes [8][16 rows][4 columns] }
//                    w = scale (code - 128)
//   kW4              [block]{ scale f16 [16]; min f16 [16]; codes [4][16 rows][4 bytes] },  w = scale code + min
//                    byte c of a block's 16 for a row holds column c (low nibble) and column c + 16 (high nibble)
enum class WeightFormat : std::uint8_t { kF32, kF16, kBF16, kW8, kW4 };
constexpr int kWeightFormats = 5;
constexpr int kPanelRows = 16;
constexpr int kBlockCols = 32;

constexpr bool is_integer(WeightFormat format) { return format == WeightFormat::kW8 || format == WeightFormat::kW4; }
// Bytes of one column (float formats) or one block (integer formats) of a panel.
constexpr std::size_t step_bytes(WeightFormat format) {
  constexpr std::size_t kBytes[kWeightFormats] = {64, 32, 32, 32 + 512, 32 + 32 + 256};
  return kBytes[static_cast<int>(format)];
}

// Input rows are multiplied in tiles of up to kTileInputs, so that a weight once in a register serves all of them.
// Integer weights meet inputs of one signed digit or two, x ~ scale * digit or scale * (128 high + low), with a scale
// for each block of 32 columns. Rows of a fine tile have two, those of a coarse one have one and, in blocks whose scale
// stands out of their row's, a second one, multiplied apart: x ~ scale * (high + low / 128).
// What is given up, as KL divergence of SmolLM2 to float32 over 512 tokens: 1e-6 with two digits (15 bits), 0.0022 with
// one. Two where values stand out: 3 times the root mean square 0.0011 for 4 % more dot products, 2.5 times 0.0010 for
// 7 %, twice 0.0009 for 14 %, 1.5 times 0.0007 for 28 %. (Two digits for Q, K, V alone: 0.0014 for 16 %.)
constexpr int kTileInputs = 6;
constexpr float kFineLimit = 127 * 128, kCoarseLimit = 127;  // the largest codes
constexpr float kStandsOut = 2.5;
struct InputTile {
  int rows = 0;
  bool fine = true;
  const float* values = nullptr;              // [column][R]         for the float formats
  const std::int8_t* codes = nullptr;         // [block][R][high, low][32] for the integer formats
  const float* scales = nullptr;              // [block][R]
  const float* sums = nullptr;                // [block][R]  scale * sum of the codes: what a weight's minimum meets
  const std::int32_t* offsets = nullptr;      // [block][R]  -128 * sum of the codes: undoes the offset of W8's codes
  const std::int32_t* low_offsets = nullptr;  // [block][R]  the same of low digits that are multiplied apart
  const std::int32_t* outliers = nullptr;     // of a coarse tile: how many blocks have such, and which
};
struct QuantizedTile {  // the writable side of it
  int rows;
  bool fine;
  std::int8_t* codes;
  float* scales;
  float* sums;
  std::int32_t* offsets;
  std::int32_t* low_offsets;
  std::int32_t* outliers;
};

struct Panels {
  const std::byte* bytes = nullptr;  // the first panel; each has steps * step_bytes
  int panels = 0;
  int steps = 0;      // blocks, or columns in the float formats
  int rows = 0;       // outputs wanted, the last panel may be partial
  bool cold = false;  // to be read from memory, not from a cache
};

struct Kernels {
  // y[input row * y_stride + output row], output rows from the first of w. An element's value depends on its own input
  // row and weight row only: blocks are added in order, whatever the tile and the panels.
  using Multiply = void (*)(const Panels& w, const InputTile& x, float* y, std::ptrdiff_t y_stride);
  Multiply multiply[kWeightFormats];
  // Quantises rows of `blocks` * 32 floats as one tile: scale = max|x| / limit per block, code to nearest even.
  void (*quantize)(const float* x, std::ptrdiff_t x_stride, int blocks, const QuantizedTile& out);

  // Rows of n floats, in place or not: out may be one of the inputs.
  void (*rmsnorm)(const float* x, const float* weight, std::size_t n, float eps, float* out);
  void (*add)(float* x, const float* y, std::size_t n);  // x += y
  void (*scale)(float* x, float factor, std::size_t n);  // x *= factor
  // A head's n pairs of channels (x[i], x[n + i]) or (x[2 i], x[2 i + 1]) become (a cos - b sin, a sin + b cos).
  void (*rotate_halves)(float* x, const float* cos, const float* sin, std::size_t n);
  void (*rotate_pairs)(float* x, const float* cos, const float* sin, std::size_t n);
  void (*silu_mul)(const float* gate, const float* up, std::size_t n, float* out);       // silu(gate) * up
  void (*gelu_tanh_mul)(const float* gate, const float* up, std::size_t n, float* out);  // gelu(gate) * up, tanh form
};

const Kernels& kernels(Isa isa);  // the Isa must be supported
// The tables themselves, each defined by its instruction set's file.
namespace scalar {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

}  // namespace lamina
