// SPDX-License-Identifier: Apache-2.0
#include "bench_feed.h"

#include <numeric>
#include <random>
#include <utility>

namespace lamina {

void Feed::begin(const KvSpec& spec, OnTokens on_tokens) {
  probe_ = spec.probes() > 0 ? std::optional(ContextProbe(model_)) : std::nullopt;
  on_tokens_ = std::move(on_tokens);
}

void Feed::prompt(KvSequence& kv, Text text, Pos length, Phase last) {
  if (kv.length() < length) kv.expect_prompt(length - kv.length());
  while (kv.length() < length) {
    const int tokens = kv.prompt_step(length - kv.length(), batch_);
    const Phase phase = kv.length() + tokens == length ? last : Phase::kPrompt;
    const Chunk one = chunk(kv, text, tokens, phase);
    step({&one, 1}, phase);
  }
}

void Feed::whole_prompt(KvSequence& kv, Text text, Pos length) {
  const Pos first = kv.length();
  prompt(kv, text, length, probe_ ? Phase::kPrompt : Phase::kPromptEnd);
  if (probe_) end_prompt(kv, text, first);
}

void Feed::end_prompt(KvSequence& kv, Text text, Pos first) {
  const Text prompt = text.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(kv.length() - first));
  const auto going_on = [this] {
    on_tokens_(0);
    return true;
  };
  if (probe_) probe_->run(model_, *pool_, work_, kv, prompt, batch_, going_on);
  KvSequence* const one = &kv;
  commit({&one, 1}, Phase::kPromptEnd, 0);
}

void Feed::decode(std::span<KvSequence> all, std::span<const Text> texts) {
  chunks_.clear();
  for (std::size_t i = 0; i < all.size(); ++i) chunks_.push_back(chunk(all[i], texts[i], 1, Phase::kDecode));
  step(chunks_, Phase::kDecode);
}

Chunk Feed::chunk(KvSequence& kv, Text text, int tokens, Phase phase) const {
  return {.kv = &kv,
          .tokens = text.subspan(static_cast<std::size_t>(kv.length()), static_cast<std::size_t>(tokens)),
          .logits = phase == Phase::kPrompt ? Chunk::Logits::kNone : Chunk::Logits::kLast,
          .prompt = phase != Phase::kDecode};
}

void Feed::step(std::span<const Chunk> chunks, Phase phase) {
  model_.forward(chunks, work_, *pool_);
  const int tokens = static_cast<int>(chunks.front().tokens.size());
  std::vector<KvSequence*> sequences;
  sequences.reserve(chunks.size());
  for (const Chunk& chunk : chunks) sequences.push_back(chunk.kv);
  commit(sequences, phase, tokens);
  on_tokens_(chunks.size() * static_cast<std::size_t>(tokens));
}

void Feed::commit(std::span<KvSequence* const> sequences, Phase phase, int tokens) {
  const auto encoded = [&] {
    return std::accumulate(sequences.begin(), sequences.end(), std::size_t{0},
                           [](std::size_t sum, const KvSequence* kv) { return sum + kv->encoded_bytes(); });
  };
  const std::size_t before = encoded();
  {
    const Timed timed(work_.profile, Op::kCommit, [] { return Work{}; });
    commit_all(sequences, phase, tokens, *pool_);
  }
  if (work_.profile != nullptr) (*work_.profile)[Op::kCommit].work.bytes += static_cast<double>(encoded() - before);
}

std::vector<Token> random_tokens(int vocab, Pos length, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (Token& token : tokens) token = static_cast<Token>(generator() % static_cast<unsigned>(vocab));
  return tokens;
}

}  // namespace lamina
