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
// A tile of R rows is stored block by block, within a block row by row:
// Integer weights meet inputs of 15 bits: with 8 bits the inputs' rounding alone costs SmolLM2 a KL divergence of
// 0.0028 to float32 (0.0008 each from the head and from Q, K and V, 0.0006 gate and up, 0.0004 down), more than int8 KV
// rows, and two chunk sizes of one prompt differ by as much; with 15 bits it is 1e-6, for about twice the dot products.
constexpr int kTileInputs = 6;
constexpr int kInputBytes = 2;            // a code is 128 * its high byte + its low byte, both signed
constexpr float kInputLimit = 127 * 128;  // the largest code
struct InputTile {
  int rows = 0;
  const float* values = nullptr;          // [column][R]         for the float formats
  const std::int8_t* codes = nullptr;     // [block][R][high, low][32] for the integer formats, x ~ scale * code
  const float* scales = nullptr;          // [block][R]
  const float* sums = nullptr;            // [block][R]  scale * sum of the codes: what a weight's minimum meets
  const std::int32_t* offsets = nullptr;  // [block][R]  -128 * sum of the codes: undoes the offset of W8's codes
};
struct QuantizedTile {  // the writable side of the four arrays above
  std::int8_t* codes;
  float* scales;
  float* sums;
  std::int32_t* offsets;
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
  // Quantises `rows` rows of `blocks` * 32 floats as one tile: scale = max|x| / kInputLimit per block, code to
  // nearest even.
  void (*quantize)(const float* x, std::ptrdiff_t x_stride, int rows, int blocks, const QuantizedTile& out);

  // Rows of n floats, in place or not: out may be one of the inputs.
  void (*rmsnorm)(const float* x, const float* weight, std::size_t n, float eps, float* out);
  void (*add)(float* x, const float* y, std::size_t n);                                  // x += y
  void (*scale)(float* x, float factor, std::size_t n);                                  // x *= factor
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
