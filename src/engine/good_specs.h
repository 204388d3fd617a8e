// SPDX-License-Identifier: Apache-2.0
// What `lamina compare` measures that is given no specs: methods that were found to be worth their bytes, each sized so
// that it fills a share of the dense cache's bytes on the model at hand.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kv/spec.h"

namespace lamina {

struct GoodSpecs {
  std::vector<std::shared_ptr<const KvSpec>> specs;
  std::vector<std::string> left_out;  // a sentence for each that is not among them, with its reason
};

// Percent of the dense cache's bytes that there are specs for, the most first.
std::vector<int> good_shares();

// Those of one share, or of 0: of all, and a format that no share has. A spec holds at most its share after so many
// tokens of a prompt and so many decoded ones, by plan_kv.
GoodSpecs good_specs(int percent, const KvShape& shape, Pos prompt, Pos decoded);

}  // namespace lamina
