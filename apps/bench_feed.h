// SPDX-License-Identifier: Apache-2.0
// Sequences as lamina bench runs them: texts whose tokens are given, so nothing is tokenised or sampled.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/context_probe.h"
#include "model/forward.h"

namespace lamina {

class Feed {
 public:
  using Text = std::span<const Token>;                // what stands at each position
  using OnTokens = std::function<void(std::size_t)>;  // after each step, the tokens it took; throws to end the run

  explicit Feed(Model& model) : model_(model) {}

  // Before the first sequence of a spec; `pool` must outlive the calls below.
  void begin(const KvSpec& spec, OnTokens on_tokens);
  void use(ThreadPool& pool, int batch) { pool_ = &pool, batch_ = batch; }

  // Up to position `length`; `last` is the phase of the last step.
  void prompt(KvSequence& kv, Text text, Pos length, Phase last);
  // A prompt from where the sequence ends up to `length`, with all that its spec asks the model then.
  void whole_prompt(KvSequence& kv, Text text, Pos length);
  // What ends a prompt whose tokens from `first` on have been fed as Phase::kPrompt.
  void end_prompt(KvSequence& kv, Text text, Pos first);
  // A token of each sequence in one step.
  void decode(std::span<KvSequence> all, std::span<const Text> texts);

  void profile(Profile* profile) { work_.profile = profile; }

 private:
  Chunk chunk(KvSequence& kv, Text text, int tokens, Phase phase) const;
  void step(std::span<const Chunk> chunks, Phase phase);
  void commit(std::span<KvSequence* const> sequences, Phase phase, int tokens);

  Model& model_;
  ThreadPool* pool_ = nullptr;
  int batch_ = 0;
  Workspace work_;
  std::optional<ContextProbe> probe_;  // of specs that want one
  std::vector<Chunk> chunks_;
  OnTokens on_tokens_;
};

std::vector<Token> random_tokens(int vocab, Pos length, unsigned seed);

}  // namespace lamina
