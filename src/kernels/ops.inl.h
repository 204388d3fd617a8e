// SPDX-License-Identifier: Apache-2.0
// The small operations on rows of floats.
#include "kernels/kernels.h"

namespace lamina::LAMINA_ISA {

// Calls fn(offset, lanes) for every vector of a row.
template <class Fn>
static inline void for_vectors(std::size_t n, Fn fn) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) fn(i, 16);
  if (i < n) fn(i, static_cast<int>(n - i));
}

static void rmsnorm(const float* x, const float* weight, std::size_t n, float eps, float* out) {
  F32 squares = zero();
  for_vectors(n, [&](std::size_t i, int lanes) {
    const F32 v = load_n(x + i, lanes);
    squares = fma(v, v, squares);
  });
  const float mean = hsum(squares) / static_cast<float>(n);
  const F32 factor = splat(1.0F / __builtin_sqrtf(mean + eps));
  for_vectors(n, [&](std::size_t i, int lanes) {
    store_n(out + i, load_n(x + i, lanes) * factor * load_n(weight + i, lanes), lanes);
  });
}

static void add(float* x, const float* y, std::size_t n) {
  for_vectors(n, [&](std::size_t i, int lanes) { store_n(x + i, load_n(x + i, lanes) + load_n(y + i, lanes), lanes); });
}

static void scale(float* x, float factor, std::size_t n) {
  for_vectors(n, [&](std::size_t i, int lanes) { store_n(x + i, load_n(x + i, lanes) * splat(factor), lanes); });
}

static void rotate_halves(float* x, const float* cos, const float* sin, std::size_t n) {
  for_vectors(n, [&](std::size_t i, int lanes) {
    const F32 a = load_n(x + i, lanes), b = load_n(x + n + i, lanes);
    const F32 c = load_n(cos + i, lanes), s = load_n(sin + i, lanes);
    store_n(x + i, a * c - b * s, lanes);
    store_n(x + n + i, a * s + b * c, lanes);
  });
}

static void rotate_pairs(float* x, const float* cos, const float* sin, std::size_t n) {
  constexpr float kSigns[16] = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
  const F32 signs = load(kSigns);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const F32 both = load(x + 2 * i);
    store(x + 2 * i, both * load_twice(cos + i) + swap_pairs(both) * (load_twice(sin + i) * signs));
  }
  for (; i < n; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

static void silu_mul(const float* gate, const float* up, std::size_t n, float* out) {
  for_vectors(n, [&](std::size_t i, int lanes) {
    const F32 g = load_n(gate + i, lanes);
    store_n(out + i, g / (splat(1.0F) + exp(zero() - g)) * load_n(up + i, lanes), lanes);
  });
}

// gelu(g) = g/2 (1 + tanh(z)), z = sqrt(2/pi) (g + 0.044715 g^3), and (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z)).
static void gelu_tanh_mul(const float* gate, const float* up, std::size_t n, float* out) {
  for_vectors(n, [&](std::size_t i, int lanes) {
    const F32 g = load_n(gate + i, lanes);
    const F32 minus_2z = g * fma(g * g, splat(-2 * 0.7978845608F * 0.044715F), splat(-2 * 0.7978845608F));
    store_n(out + i, g / (splat(1.0F) + exp(minus_2z)) * load_n(up + i, lanes), lanes);
  });
}

const Kernels kKernels = {
    .multiply = {multiply<WeightFormat::kF32>, multiply<WeightFormat::kF16>, multiply<WeightFormat::kBF16>,
                 multiply<WeightFormat::kW8>, multiply<WeightFormat::kW4>},
    .quantize = quantize,
    .rmsnorm = rmsnorm,
    .add = add,
    .scale = scale,
    .rotate_halves = rotate_halves,
    .rotate_pairs = rotate_pairs,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
};

}  // namespace lamina::LAMINA_ISA
