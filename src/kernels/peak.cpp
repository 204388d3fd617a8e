// SPDX-License-Identifier: Apache-2.0
#include "kernels/peak.h"

#include <cassert>

namespace lamina {
namespace {

#if defined(__x86_64__)
PeakKernels avx512_peak_kernels() {
  PeakKernels table = avx512::kPeakKernels;
  if (__builtin_cpu_supports("avx512bf16"))
    table.bf16 = {.run = avx512::dot_bf16, .operations = 2.0 * 32 * avx512::kBf16Chains};
  return table;
}
#endif

}  // namespace

PeakKernels peak_kernels(Isa isa) {
  assert(supported(isa));
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512_peak_kernels();
  if (isa == Isa::kAvx2) return avx2::kPeakKernels;
#endif
  return scalar::kPeakKernels;
}

}  // namespace lamina
