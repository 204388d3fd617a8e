// SPDX-License-Identifier: Apache-2.0
// What lamina eval ppl prints.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/score.h"

namespace lamina {

struct Evaluation {
  std::string what;                                  // one line
  std::vector<std::shared_ptr<const KvSpec>> specs;  // as scores
  std::vector<Score> scores;
  std::size_t windows = 1;
  // What the specs are compared with: a spec, perhaps from a file of its logits, or a file of reference logits.
  std::string base_spec{}, base_file{}, reference{};
};

void print_json(const Evaluation& evaluation, const KvShape& shape);
void print_table(const Evaluation& evaluation, const KvShape& shape);

}  // namespace lamina
