// SPDX-License-Identifier: Apache-2.0
#include "kernels/kernels.h"

#include <cassert>
#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace lamina {
namespace {

#if defined(__x86_64__)
// Every processor with AVX2 has F16C, which clang 14 cannot be asked for.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
#endif

}  // namespace

const char* name(Isa isa) { return isa == Isa::kScalar ? "scalar" : isa == Isa::kAvx2 ? "avx2" : "avx512"; }

bool supported(Isa isa) { return isa == Isa::kScalar || (isa == Isa::kAvx2 ? has_avx2() : has_avx512()); }

Isa chosen_isa() {
  const char* wanted = std::getenv("LAMINA_ISA");
  if (wanted == nullptr || *wanted == '\0')
    return supported(Isa::kAvx512) ? Isa::kAvx512 : supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kScalar;
  for (const Isa isa : kAllIsas) {
    if (std::string_view(name(isa)) != wanted) continue;
    require(supported(isa), "LAMINA_ISA={}: this processor or build does not support it", wanted);
    return isa;
  }
  fail("LAMINA_ISA={}: expected scalar, avx2 or avx512", wanted);
}

const Kernels& kernels(Isa isa) {
  assert(supported(isa));
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512::kKernels;
  if (isa == Isa::kAvx2) return avx2::kKernels;
#endif
  return scalar::kKernels;
}

}  // namespace lamina
