// SPDX-License-Identifier: Apache-2.0
// Greedy continuations of caches, in one step all together: the weights are read once for all of them. Each gets what
// it would get alone, to the bit.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kv/sequence.h"
#include "model/forward.h"

namespace lamina {

struct Continuation {
  KvSequence kv;             // after a prompt's end; a fork leaves the prompt's own as it is
  std::vector<Token> given;  // fed one by one as if the model had said them: the policy sees them after its commit only
  std::vector<Token> said;   // then the most likely ones. Begins with the prompt's next token where nothing is given
};

// The token that logits [vocab] make most likely, the first of equals. Error if they are not numbers.
Token most_likely(std::span<const float> logits);

// Feeds each, all of one pool of blocks, what it is given and lets it go on until `ends`, which is asked after each
// token it says. The last token said is not fed.
using Ends = std::function<bool(std::size_t continuation, std::span<const Token> said)>;
void continue_greedily(Model& model, ThreadPool& pool, std::span<Continuation> all, const Ends& ends);

}  // namespace lamina
