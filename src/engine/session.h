// SPDX-License-Identifier: Apache-2.0
// Session: one model, one sequence. Feeds prompts in chunks and tokens one by one, and commits after each step.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/thread_pool.h"
#include "engine/context_probe.h"
#include "kv/sequence.h"
#include "model/forward.h"

namespace lamina {

class Session {
 public:
  struct Options {
    std::shared_ptr<const KvSpec> spec;
    Pos context = 0;  // most tokens that the sequence may have
    // Most tokens of a prompt that one step takes. A token policy that prunes between layers takes the whole prompt in
    // one step whatever it says: working memory then grows with the prompt.
    int batch = 512;
    std::shared_ptr<BlockPool> blocks{};  // null: a pool of its own
    Isa isa = chosen_isa();               // of the forward pass; rows are encoded by the chosen one's kernels
  };

  // Called after each step of a prompt with the number of its tokens done so far; false stops there.
  using OnProgress = std::function<bool(std::size_t done)>;
  // Called with the logits of prompt tokens [first, first + rows): [rows][vocab].
  using OnLogits = std::function<void(std::size_t first, std::span<const float> logits)>;

  Session(Model& model, ThreadPool& pool, Options options);

  // Appends a prompt and commits it as one (prompt end). Returns the logits after its last token, valid until the next
  // call; empty if `progress` stopped it. Error if the context cannot hold it or it is empty.
  // Followers are sessions of the same model and pool of blocks that get the same prompt without computing it again:
  // all are empty, and their specs agree on it (KvSpec::same_prompt).
  std::span<const float> prompt(std::span<const Token> tokens, const OnProgress& progress = {},
                                std::span<Session* const> followers = {});
  // The same without the commit that ends it, for a look at what the token policy will see: kv().commit(kPromptEnd, 0)
  // ends it then.
  void prompt_but_its_end(std::span<const Token> tokens);
  // The same with the logits of every token, but of steps that end before token `first`.
  void score(std::span<const Token> tokens, const OnLogits& logits, const OnProgress& progress = {},
             std::size_t first = 0);
  // Appends one token and returns the logits after it. Error if the context is full.
  std::span<const float> decode(Token token);
  // Forgets everything.
  void reset();

  KvSequence& kv() { return kv_; }
  const KvSequence& kv() const { return kv_; }
  Pos context() const { return options_.context; }
  Pos room() const { return options_.context - kv_.length(); }
  // The most bytes held at any time since the last reset.
  std::size_t peak_bytes() const { return peak_bytes_; }

 private:
  void begin_prompt(std::size_t tokens);
  std::span<const float> step(std::span<const Token> tokens, Chunk::Logits logits, Phase phase,
                              std::span<Session* const> followers = {});
  void end_step(std::size_t tokens, Phase phase, ThreadPool* threads);
  bool probe(std::span<const Token> prompt, const OnProgress& progress, Phase end_phase);
  struct Wanted {  // logits of all tokens
    const OnLogits& call;
    std::size_t first;
  };
  void feed(std::span<const Token> tokens, const Wanted* logits, const OnProgress& progress,
            std::span<const float>& last, Phase end_phase = Phase::kPromptEnd,
            std::span<Session* const> followers = {});

  Model& model_;
  ThreadPool& pool_;
  Options options_;
  std::optional<ContextProbe> probe_;  // of specs that want one
  std::shared_ptr<BlockPool> blocks_;
  KvSequence kv_;
  Workspace work_;
  std::size_t peak_bytes_ = 0;
};

// Address space for a session's blocks.
std::size_t session_bytes(const KvShape& shape, const KvSpec& spec, Pos context);

}  // namespace lamina
