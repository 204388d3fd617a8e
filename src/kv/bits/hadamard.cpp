// SPDX-License-Identifier: Apache-2.0
#include "kv/bits/hadamard.h"

#include <cmath>

namespace lamina {

void hadamard(float* x, int n) {
  const int block = n & -n;
  const float scale = 1 / std::sqrt(static_cast<float>(block));
  for (const float* const end = x + n; x < end; x += block) {
    for (int half = 1; half < block; half *= 2)
      for (int first = 0; first < block; first += 2 * half)
        for (int i = first; i < first + half; ++i) {
          const float a = x[i], b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
    for (int i = 0; i < block; ++i) x[i] *= scale;
  }
}

}  // namespace lamina
