// SPDX-License-Identifier: Apache-2.0
// A suite run over specs, into a file of results: what the file has is not measured again.
#pragma once
#include <functional>
#include <string>

#include "engine/results_file.h"
#include "engine/suite.h"

namespace lamina {

struct CompareState {
  std::string measurement;                 // that is running
  std::size_t measurements = 0, done = 0;  // of this run
  double seconds_left = 0;                 // by what was measured so far; not yet known: negative
};
using OnCompare = std::function<void(const CompareState& state)>;  // often; it may throw to end the work

// Fills the file up. `specs` are different from each other.
void compare(const Suite& suite, Subject subject, Specs specs, ResultsFile& file, const OnCompare& on_state);

}  // namespace lamina
