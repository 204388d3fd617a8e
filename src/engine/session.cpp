// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "base/error.h"

namespace lamina {

std::size_t session_bytes(const KvShape& shape, const KvSpec& spec, Pos context) {
  const Pos probes = spec.probes();  // whose rows stand beside the context's
  return most_bytes(shape, context + (probes > 0 ? std::min(probes, context) + ContextProbe::kMostInstruction : 0));
}

Session::Session(Model& model, ThreadPool& pool, Options options)
    : model_(model),
      pool_(pool),
      options_(std::move(options)),
      probe_(options_.spec->probes() > 0 ? std::optional(ContextProbe(model)) : std::nullopt),
      blocks_(options_.blocks ? options_.blocks
                              : std::make_shared<BlockPool>(
                                    model.shape(), session_bytes(model.shape(), *options_.spec, options_.context),
                                    options_.spec->widest())),
      kv_(options_.spec, model.shape(), *blocks_),
      work_(options_.isa) {
  require(options_.batch >= 1, "batch size is {}, expected at least 1", options_.batch);
  require(options_.context >= 1, "context size is {}, expected at least 1", options_.context);
}

std::span<const float> Session::prompt(std::span<const Token> tokens, const OnProgress& progress,
                                       std::span<Session* const> followers) {
  std::span<const float> last;
  feed(tokens, nullptr, progress, last, Phase::kPromptEnd, followers);
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

void Session::begin_prompt(std::size_t tokens) {
  require(tokens > 0, "the prompt is empty");
  require(tokens <= static_cast<std::size_t>(room()),
          "the prompt has {} tokens, {} of {} positions of the context are free (see --ctx-size)", tokens, room(),
          options_.context);
  kv_.expect_prompt(static_cast<Pos>(tokens));
}

void Session::feed(std::span<const Token> tokens, const Wanted* logits, const OnProgress& progress,
                   std::span<const float>& last, Phase end_phase, std::span<Session* const> followers) {
  begin_prompt(tokens.size());
  for (Session* const follower : followers) {
    assert(kv_.length() == 0 && follower->kv_.length() == 0 && options_.spec->same_prompt(*follower->options_.spec));
    follower->begin_prompt(tokens.size());
  }
  for (std::size_t done = 0; done < tokens.size();) {
    const auto n = static_cast<std::size_t>(kv_.prompt_step(static_cast<Pos>(tokens.size() - done), options_.batch));
    const bool end = done + n == tokens.size();
    const bool all = logits != nullptr && done + n > logits->first;
    const auto wanted = all ? Chunk::Logits::kAll : end ? Chunk::Logits::kLast : Chunk::Logits::kNone;
    last = step(tokens.subspan(done, n), wanted, end ? end_phase : Phase::kPrompt, followers);
    if (all) logits->call(done, last);
    done += n;
    if (progress && !progress(done) && !end) {
      last = {};
      return;
    }
  }
  bool probed = probe(tokens, progress, end_phase);
  for (Session* const follower : followers) probed = probed && follower->probe(tokens, progress, end_phase);
  if (!probed) last = {};
}

// Whether it was not stopped.
bool Session::probe(std::span<const Token> prompt, const OnProgress& progress, Phase end_phase) {
  if (!probe_) return true;
  const auto after_step = [&] {
    peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
    return !progress || progress(prompt.size());
  };
  if (!probe_->run(model_, pool_, work_, kv_, prompt, options_.batch, after_step)) return false;
  if (end_phase == Phase::kPromptEnd) kv_.commit(end_phase, 0, &pool_);
  return true;
}

std::span<const float> Session::decode(Token token) {
  require(room() > 0, "the context of {} tokens is full (see --ctx-size)", options_.context);
  return step({&token, 1}, Chunk::Logits::kLast, Phase::kDecode);
}

std::span<const float> Session::step(std::span<const Token> tokens, Chunk::Logits logits, Phase phase,
                                     std::span<Session* const> followers) {
  std::vector<KvSequence*> others;
  for (Session* const follower : followers) others.push_back(&follower->kv_);
  const Chunk chunk{
      .kv = &kv_, .tokens = tokens, .logits = logits, .prompt = phase != Phase::kDecode, .followers = others};
  std::span<const float> out;
  try {
    out = model_.forward({&chunk, 1}, work_, pool_);
  } catch (...) {
    kv_.discard();
    for (KvSequence* const other : others) other->discard();
    throw;
  }
  if (phase == Phase::kPromptEnd) work_.give_back();  // a token's is enough from here on
  if (followers.empty()) {
    end_step(tokens.size(), phase, &pool_);
  } else {
    pool_.parallel_for(static_cast<int>(followers.size()) + 1, [&](int i, int /*thread*/) {
      (i == 0 ? this : followers[static_cast<std::size_t>(i - 1)])->end_step(tokens.size(), phase, nullptr);
    });
  }
  return out;
}

void Session::end_step(std::size_t tokens, Phase phase, ThreadPool* threads) {
  peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
  const bool is_probed = phase == Phase::kPromptEnd && probe_;  // whose end comes after the probe
  kv_.commit(is_probed ? Phase::kPrompt : phase, static_cast<int>(tokens), threads);
  peak_bytes_ = std::max(peak_bytes_, kv_.bytes().total());
}

void Session::reset() {
  kv_ = KvSequence(options_.spec, model_.shape(), *blocks_);
  peak_bytes_ = 0;
}

}  // namespace lamina
