// SPDX-License-Identifier: Apache-2.0
#include "kernels/attend.h"

#include <cassert>

namespace lamina {

const AttendKernels& attend_kernels(Isa isa) {
  assert(supported(isa));
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512::kAttendKernels;
  if (isa == Isa::kAvx2) return avx2::kAttendKernels;
#endif
  return scalar::kAttendKernels;
}

}  // namespace lamina
