// SPDX-License-Identifier: Apache-2.0
#include "model/profile.h"

namespace lamina {

const char* name(Op op) {
  constexpr std::array<const char*, kOps> kNames = {"embedding",
                                                    "norms",
                                                    "quantise inputs",
                                                    "Q, K, V",
                                                    "rope, append",
                                                    "attention, prompt",
                                                    "attention, decode",
                                                    "attention output",
                                                    "gate, up",
                                                    "activation",
                                                    "down",
                                                    "residual",
                                                    "head",
                                                    "commit, encode"};
  return kNames[static_cast<std::size_t>(op)];
}

Profile::Entry Profile::sum() const {
  Entry sum;
  for (const Entry& entry : entries_) {
    sum.calls += entry.calls;
    sum.seconds += entry.seconds;
    sum.work += entry.work;
  }
  return sum;
}

}  // namespace lamina
