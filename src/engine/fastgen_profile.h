// SPDX-License-Identifier: Apache-2.0
// What FastGen (arXiv:2310.01801, 2.3) finds for a prompt: what each policy recovers of each KV head's attention, and
// which one the head gets.
#pragma once
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kv/tokens/fastgen.h"
#include "model/forward.h"

namespace lamina {

struct HeadProfile {
  int slot = 0, head = 0;          // head 0 stands for all heads of a pair of layers that is merged
  std::size_t chosen = 0;          // index into FastGenProfile::policies
  std::vector<double> recoveries;  // [policy but the last]
  std::size_t rows = 0;            // kept of the prompt
};

struct FastGenProfile {
  std::vector<std::string> policies;  // "special", "special+punct", …, "full"
  std::vector<HeadProfile> heads;
  double kept_fraction = 1;
  double prompt_seconds = 0;        // with attention measured
  double plain_prompt_seconds = 0;  // the dense cache's
  double choice_seconds = 0;        // to choose, and to drop rows
  double decode_seconds = 0;        // of so many tokens, on the rows kept
  int decoded = 0;
};

// The spec's tokens must be FastGen's. Error if the prompt is empty or longer than the context.
FastGenProfile profile_fastgen(Model& model, ThreadPool& pool, const std::shared_ptr<const KvSpec>& spec,
                               std::span<const Token> prompt, int batch, int decode);

}  // namespace lamina
