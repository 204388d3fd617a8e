// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (RoFormer, arXiv:2104.09864) and its scalings. Angles are computed in double: at position
// 100,000 a float32 angle is already wrong in the third digit.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kv/query_moments.h"
#include "kv/types.h"

namespace lamina {

enum class RopeScaling { kNone, kLinear, kYarn };

struct RopeConfig {
  int dims = 0;  // leading channels of a head that rotate; the rest pass unchanged
  double base = 10000;
  bool interleaved = false;  // pairs (2i, 2i + 1) as GGUF's llama stores them; else halves (i, i + dims / 2)
  std::vector<float> frequency_factors{};  // [dims / 2] divides each frequency (llama3: rope_freqs.weight); empty: 1
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;  // kLinear and kYarn: how many times the original context is stretched
  // kYarn (arXiv:2309.00071): pairs that turn more than beta_fast times in the original context keep their frequency,
  // those below beta_slow turns are stretched fully.
  double original_context = 0;
  double extrapolation = 1;     // llama.cpp's ext_factor: share of the ramp; 0 stretches every pair
  double attention_factor = 1;  // times 0.1 ln(factor) + 1, on queries and keys alike
  double beta_fast = 32, beta_slow = 1;
};

class Rope {
 public:
  explicit Rope(RopeConfig config, Isa isa = chosen_isa());

  int dims() const { return config_.dims; }

  // Makes positions [0, positions) ready. Not thread-safe: call it before the step that reads them.
  void reserve(Pos positions);

  // Rotates the head x (at least dims() channels) for a reserved position, in place.
  void rotate(float* x, Pos pos) const;

  // The mean over positions [first, first + count), reserved or not, for queries whose scores have this scale.
  NextPositions mean(Pos first, Pos count, double scale) const;

 private:
  RopeConfig config_;
  std::vector<double> frequency_;  // [dims / 2] radians per position
  double magnitude_ = 1;           // of every cos and sin
  void (*rotate_)(float* x, const float* cos, const float* sin, std::size_t n);
  std::vector<float> table_;  // [pos][2][dims / 2]: cos, then sin
  Pos positions_ = 0;
};

}  // namespace lamina
