// SPDX-License-Identifier: Apache-2.0
// The measurements that suites are made of.
#pragma once
#include <string>
#include <vector>

#include "engine/choice.h"
#include "engine/generation.h"
#include "engine/retrieval_tasks.h"
#include "engine/suite.h"

namespace lamina {

using Tokens = std::vector<Token>;

// ---- of each spec (suite_specs.cpp, suite_tasks.cpp)
// -------------------------------------------------------------------
Measurement perplexity_measurement(const std::vector<Tokens>& windows, int prompt);
// What a cache holds after a prompt: bytes by what they are for, rows by layer and head.
Measurement cache_measurement(Tokens prompt);
// Decoding after a prompt of `depth` tokens, the text's next tokens.
Measurement speed_measurement(Tokens text, Pos depth);
struct ChoiceSet {
  std::string task;
  int shots = 0;
  std::vector<ChoiceItem> items;
  std::vector<std::vector<ChoiceTokens>> tokens;  // [item]
};
Measurement choice_measurement(ChoiceSet set);
Measurement retrieval_measurement(const RetrievalTask& task, int contexts, int tokens);
// `text`: of each item what its text continues, to be shown.
Measurement generation_measurement(std::string name, std::vector<GenerationItem> items, int most);

// ---- of the model (suite_model.cpp)
// -------------------------------------------------------------------------------------- Distances between all pairs of
// layers as KVSharer ranks them; how alike neighbours are, as MiniCache merges them.
Measurement layers_measurement(std::vector<Tokens> sentences);
Measurement fastgen_measurement(Tokens prompt);    // the policy of each layer and head
Measurement minicache_measurement(Tokens prompt);  // the rows that are kept apart, by position
Measurement attention_measurement(Tokens prompt);  // where the last queries of a prompt look, by layer and head

}  // namespace lamina
