// SPDX-License-Identifier: Apache-2.0
// Generator: the loop of run and chat: prompt, sample, print, decode.
#pragma once
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common.h"

namespace lamina {

class Generator {
 public:
  Generator(Session& session, const Tokenizer& tokenizer, const SamplerConfig& config)
      : session_(session), tokenizer_(tokenizer), config_(config), sampler_(config) {}

  // False if Ctrl-C stopped it: the cache then holds a part of it, for restart() to drop.
  bool prompt(std::span<const Token> tokens);
  // Generates until the end of generation, args.predict tokens, a full context or Ctrl-C; gives out text as it comes
  // and returns all of it.
  std::string generate(const SamplingArguments& args, const std::function<void(std::string_view)>& emit);
  // Empties the cache and forgets what was sampled.
  void restart();
  // One line of figures: speeds, the cache beside the dense one, and the seed that repeats this text.
  void report(std::FILE* out) const;

 private:
  Session& session_;
  const Tokenizer& tokenizer_;
  SamplerConfig config_;
  Sampler sampler_;
  std::span<const float> logits_;
  std::size_t prompted_ = 0, generated_ = 0;
  double prompt_seconds_ = 0, generate_seconds_ = 0;
};

}  // namespace lamina
