// SPDX-License-Identifier: Apache-2.0
#include "engine/context_probe.h"

#include <algorithm>

#include "model/tokenizer_data.h"

namespace lamina {
namespace {

constexpr std::size_t kLastTokens = 8;  // of the piece before

}  // namespace

// The words of the method's authors: scores depend on them.
ContextProbe::ContextProbe(const Model& model) {
  const Tokenizer tokenizer = load_tokenizer(model.file());
  first_ = tokenizer.encode("\n\nRepeat the previous context exactly.", false);
  next_ = tokenizer.encode("\n\nRepeat the part of the previous context exactly, starting with", false);
  end_ = tokenizer.encode("\n", false);
}

std::vector<std::vector<Token>> ContextProbe::texts(std::span<const Token> prompt, std::size_t piece) const {
  std::vector<std::vector<Token>> all;
  for (std::size_t first = 0; first < prompt.size(); first += piece) {
    std::vector<Token> text = first == 0 ? first_ : next_;
    const auto add = [&](std::span<const Token> tokens) { text.insert(text.end(), tokens.begin(), tokens.end()); };
    const std::size_t before = std::min(first, kLastTokens);
    add(prompt.subspan(first - before, before));
    add(end_);
    add(prompt.subspan(first, std::min(piece, prompt.size() - first)));
    all.push_back(std::move(text));
  }
  return all;
}

bool ContextProbe::run(Model& model, ThreadPool& pool, Workspace& work, KvSequence& kv, std::span<const Token> prompt,
                       int batch, const std::function<bool()>& after_step) const {
  try {
    for (const std::vector<Token>& text : texts(prompt, static_cast<std::size_t>(kv.spec().probes()))) {
      kv.begin_probe();
      for (std::size_t done = 0, n = 0; done < text.size(); done += n) {
        n = std::min(text.size() - done, static_cast<std::size_t>(batch));
        const Chunk chunk{
            .kv = &kv, .tokens = std::span(text).subspan(done, n), .logits = Chunk::Logits::kNone, .prompt = true};
        model.forward({&chunk, 1}, work, pool);
        const bool goes_on = after_step();
        kv.keep_probe(static_cast<int>(n));
        if (!goes_on) {
          kv.discard();
          return false;
        }
      }
      kv.discard();
    }
  } catch (...) {
    kv.discard();
    throw;
  }
  return true;
}

}  // namespace lamina
