// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace lamina {
Session::Session(Model& model, ThreadPool& pool, Options options)
    : model_(model),
      pool_(pool),
      options_(std::move(options)),
      probe_(options_.spec->probes() > 0 ? std::optional(ContextProbe(model)) : std::nullopt),
      blocks_(std::make_unique<BlockPool>(model.shape(), most_bytes(model.shape(), options_.context + probe_tokens()),
                                          options_.spec->widest())),
      kv_(options_.spec, model.shape(), *blocks_) {
  require(options_.batch >= 1, "batch size is {}, expected at least 1", options_.batch);
  require(options_.context >= 1, "context size is {}, expected at least 1", options_.context);
}

std::span<const float> Session::prompt(std::span<const Token> tokens, const OnProgress& progress) {
  std::span<const float> last;
  feed(tokens, nullptr, progress, last);
  return last;
}

void Session::prompt_but_its_end(std::span<const Token> tokens) {
  std::span<const float> last;
  feed(tokens, nullptr, {}, last, Phase::kPrompt);
}

void Session::score(std::span<const Token> tokens, const OnLogits& logits, const OnProgress& progress,
                    std::size_t first) {
  std::span<const float> last;
  const Wanted all{.call = logits, .first = first};
  feed(tokens, &all, progress, last);
}

void Session::feed(std::span<const Token> tokens, const Wanted* logits, const OnProgress& progress,
                   std::span<const float>& last, Phase end_phase) {
  require(!tokens.empty(), "the prompt is empty");
  require(tokens.size() <= static_cast<std::size_t>(room()),
          "the prompt has {} tokens, {} of {} positions of the context are free (see --ctx-size)", tokens.size(),
          room(), options_.context);
  kv_.expect_prompt(static_cast<Pos>(tokens.size()));
  for (std::size_t done = 0; done < tokens.size();) {
    const auto n = static_cast<std::size_t>(kv_.prompt_step(static_cast<Pos>(tokens.size() - done), options_.batch));
    const bool end = done + n == tokens.size();
    const bool all = logits != nullptr && done + n > logits->first;
    const auto wanted = all ? Chunk::Logits::kAll : end ? Chunk::Logits::kLast : Chunk::Logits::kNone;
    last = step(tokens.subspan(done, n), wanted, end && !probe_ ? end_phase : Phase::kPrompt);
    if (all) logits->call(done, last);
    done += n;
    if (progress && !progress(done) && !end) {
      last = {};
      return;
    }
  }
  if (!probe_) return;
  const auto after_step = [&] {
    peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
    return !progress || progress(tokens.size());
  };
  if (!probe_->run(model_, pool_, work_, kv_, tokens, options_.batch, after_step)) {
    last = {};
    return;
  }
  if (end_phase == Phase::kPromptEnd) kv_.commit(end_phase, 0);
}

// The most rows that a probe has beside the context's.
Pos Session::probe_tokens() const {
  if (!probe_) return 0;
  return std::min(options_.spec->probes(), options_.context) + static_cast<Pos>(probe_->most_instruction());
}

std::span<const float> Session::decode(Token token) {
  require(room() > 0, "the context of {} tokens is full (see --ctx-size)", options_.context);
  return step({&token, 1}, Chunk::Logits::kLast, Phase::kDecode);
}

std::span<const float> Session::step(std::span<const Token> tokens, Chunk::Logits logits, Phase phase) {
  const Chunk chunk{.kv = &kv_, .tokens = tokens, .logits = logits, .prompt = phase != Phase::kDecode};
  std::span<const float> out;
  try {
    out = model_.forward({&chunk, 1}, work_, pool_);
  } catch (...) {
    kv_.discard();
    throw;
  }
  peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
  if (chunk.prompt && options_.spec->prunes()) work_.give_back();  // of all the prompt's tokens at once
  kv_.commit(phase, static_cast<int>(tokens.size()));
  peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
  return out;
}

void Session::reset() {
  kv_ = KvSequence(options_.spec, model_.shape(), *blocks_);
  peak_bytes_ = 0;
}

}  // namespace lamina
