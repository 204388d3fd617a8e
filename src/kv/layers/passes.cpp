// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/passes.h"

#include <algorithm>
#include <cassert>

namespace lamina {
namespace {

int target_of(std::span<const int> target, int layer) {
  const int read = target[static_cast<std::size_t>(layer)];
  assert(read >= 0 && read < static_cast<int>(target.size()));
  return read;
}

bool reads_upward(std::span<const int> target, int layer) { return target_of(target, layer) > layer; }

// A layer on the way may read still higher, which moves the end.
int end_of_iterated(std::span<const int> target, int first) {
  int end = first + 1;
  for (int layer = first; layer < end; ++layer) end = std::max(end, target_of(target, layer) + 1);
  return end;
}

int end_of_single(std::span<const int> target, int first) {
  int end = first;
  while (end < static_cast<int>(target.size()) && !reads_upward(target, end)) ++end;
  return end;
}

}  // namespace

bool cyclic(std::span<const int> target) { return end_of_single(target, 0) < static_cast<int>(target.size()); }

std::vector<Pass> plan_passes(std::span<const int> target) {
  std::vector<Pass> plan;
  for (int first = 0; first < static_cast<int>(target.size()); first = plan.back().last) {
    const bool iterated = reads_upward(target, first);
    plan.push_back({first, iterated ? end_of_iterated(target, first) : end_of_single(target, first), iterated});
  }
  return plan;
}

}  // namespace lamina
