// SPDX-License-Identifier: Apache-2.0
#include "engine/greedy.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/error.h"

namespace lamina {
namespace {

struct Going {
  std::size_t index;    // of the continuation
  std::size_t fed = 0;  // of what it was given
};

// The step's tokens into the sequences; returns those that go on.
std::vector<Going> step(Model& model, Workspace& work, ThreadPool& pool, std::span<Continuation> all,
                        std::vector<Going> going, const Ends& ends) {
  std::vector<Chunk> chunks;
  for (Going& g : going) {
    Continuation& c = all[g.index];
    const bool gives = g.fed < c.given.size();
    const std::span<const Token> token = gives ? std::span(c.given).subspan(g.fed++, 1) : std::span(c.said).last(1);
    const bool listens = g.fed == c.given.size();
    chunks.push_back({.kv = &c.kv, .tokens = token, .logits = listens ? Chunk::Logits::kLast : Chunk::Logits::kNone});
  }
  const std::span<const float> logits = model.forward(chunks, work, pool);
  std::vector<KvSequence*> sequences;
  sequences.reserve(chunks.size());
  for (const Chunk& chunk : chunks) sequences.push_back(chunk.kv);
  commit_all(sequences, Phase::kDecode, 1, pool);
  const auto vocab = static_cast<std::size_t>(model.config().vocab);
  std::vector<Going> left;
  std::size_t row = 0;
  for (std::size_t i = 0; i < going.size(); ++i) {
    Continuation& c = all[going[i].index];
    if (chunks[i].logits == Chunk::Logits::kLast) {
      c.said.push_back(most_likely(logits.subspan(row++ * vocab, vocab)));
      if (ends(going[i].index, c.said)) continue;
    }
    left.push_back(going[i]);
  }
  return left;
}

}  // namespace

Token most_likely(std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  require(std::isfinite(*best), "the model's logits are not finite numbers");
  return static_cast<Token>(best - logits.begin());
}

void continue_greedily(Model& model, ThreadPool& pool, std::span<Continuation> all, const Ends& ends) {
  Workspace work;
  std::vector<Going> going;
  for (std::size_t i = 0; i < all.size(); ++i) {
    assert(all[i].given.empty() != all[i].said.empty() && all[i].kv.memory().base == all[0].kv.memory().base);
    if (all[i].said.empty() || !ends(i, all[i].said)) going.push_back({.index = i});
  }
  while (!going.empty()) going = step(model, work, pool, all, std::move(going), ends);
}

}  // namespace lamina
