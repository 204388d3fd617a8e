// SPDX-License-Identifier: Apache-2.0
// The items of a multiple-choice task: files of JSON lines, answered examples before each question (shots), a limit.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/choice_task.h"

namespace lamina {

struct ChoiceData {
  std::string task;
  std::string file;
  int limit = 0;                        // how many of its items; 0: all
  int shots = 0;                        // answered examples before each question, the same before all
  std::string shots_file{};             // whose examples; empty: of `file`, where these are then no questions
  std::optional<std::uint64_t> seed{};  // which examples: drawn by this seed; none: the first
};

// The questions in the file's order, with the shots in their contexts. A file without labels may have a file of them
// beside it: FILE-labels.lst of FILE.jsonl, a line each. Error that names file, line and field.
std::vector<ChoiceItem> read_choices(const ChoiceData& data);

}  // namespace lamina
