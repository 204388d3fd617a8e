// SPDX-License-Identifier: Apache-2.0
// Multiple-choice tasks: the prompts that lm-evaluation-harness 0.4 makes of a line of data, to the letter.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "model/json_field.h"

namespace lamina {

struct ChoiceItem {
  struct Choice {
    std::string context;       // what is given
    std::string continuation;  // what is scored, from the space before it on
    std::size_t characters =
        0;  // code points of the text that is scored: what the length-normalised accuracy divides by
  };
  std::vector<Choice> choices;
  std::size_t answer = 0;  // the right choice
  int line = 0;            // of its file
};

struct ChoiceTask {
  std::string name;
  // From a line as the data set has it at Hugging Face; arc_easy, arc_challenge, openbookqa and commonsenseqa also from
  // AI2's own files, winogrande also with two contexts and what follows. Error that names the field.
  ChoiceItem (*item)(const JsonField& line);
};

const std::vector<ChoiceTask>& choice_tasks();
// Error, naming those that there are, for a name that is not known.
const ChoiceTask& choice_task(const std::string& name);

}  // namespace lamina
