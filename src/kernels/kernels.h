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

struct Kernels {
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
