// SPDX-License-Identifier: Apache-2.0
// What is hidden in a context and asked for, in the manner of RULER (arXiv:2404.06654), worded so that models of 0.1
// billion parameters can answer: the question ends with the beginning of the answer. Items come from a seed and a
// length; none of their text is copied.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/ask.h"
#include "engine/retrieval_text.h"

namespace lamina {

struct RetrievalTask {
  std::string_view name, what;
  // `filler` units of text that nothing is asked of; at most `questions` questions, at least one.
  ContextQuestions (*make)(RandomText random, int filler, int questions);
};

std::span<const RetrievalTask> retrieval_tasks();
const RetrievalTask& retrieval_task(std::string_view name);  // Error that lists them

// Item `index` of a seed: a context that with its longest question has at most `tokens` tokens as `count` counts them,
// and nearly as many. Error if the task does not fit into so few.
struct RetrievalLength {
  std::size_t tokens = 1024;
  int questions = 2;
};
ContextQuestions make_retrieval(const RetrievalTask& task, std::uint64_t seed, int index, const RetrievalLength& length,
                                const CountTokens& count);

}  // namespace lamina
