// SPDX-License-Identifier: Apache-2.0
#include "generate.h"

#include "base/error.h"
#include "base/stopwatch.h"

namespace lamina {

bool Generator::prompt(std::span<const Token> tokens) {
  for (const Token token : tokens) sampler_.accept(token);
  Progress progress("prompt", tokens.size());
  const Stopwatch watch;
  logits_ = session_.prompt(tokens, [&](std::size_t done) {
    progress.update(done);
    return !interrupted();
  });
  prompt_seconds_ += watch.seconds();
  prompted_ += tokens.size();
  return !logits_.empty();
}

void Generator::restart() {
  session_.reset();
  sampler_ = Sampler(config_);
  logits_ = {};
}

std::string Generator::generate(const SamplingArguments& args, const std::function<void(std::string_view)>& emit) {
  Detokenizer detokenizer(tokenizer_, false);
  std::string text;
  const auto give = [&](const std::string& piece) {
    text += piece;
    if (!piece.empty()) emit(piece);
  };
  const Stopwatch watch;
  for (int n = 0; n != args.predict && !logits_.empty() && !interrupted(); ++n) {
    const Token token = sampler_.sample(logits_);
    if (tokenizer_.is_end_of_generation(token) && !args.ignore_eos) break;
    sampler_.accept(token);
    give(detokenizer.push(token));
    ++generated_;
    if (session_.room() == 0) {
      fmt::print(stderr, "\ncontext of {} tokens is full\n", session_.context());
      break;
    }
    logits_ = session_.decode(token);
  }
  give(detokenizer.flush());
  generate_seconds_ += watch.seconds();
  return text;
}

void Generator::report(std::FILE* out) const {
  const auto rate = [](std::size_t n, double s) { return s > 0 ? static_cast<double>(n) / s : 0.0; };
  const auto bytes = static_cast<double>(session_.kv().bytes().total());
  const auto dense = static_cast<double>(dense_bytes(session_.kv().shape(), session_.kv().length()).total());
  fmt::print(
      out,
      "prompt {} tokens, {:.1f}/s; generated {}, {:.1f}/s; kv \"{}\" holds {}, {:.2f}x less than dense f16; seed {}\n",
      prompted_, rate(prompted_, prompt_seconds_), generated_, rate(generated_, generate_seconds_),
      session_.kv().spec().text(), human_bytes(bytes), bytes > 0 ? dense / bytes : 1.0, config_.seed);
}

}  // namespace lamina
