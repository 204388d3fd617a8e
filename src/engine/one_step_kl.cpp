// SPDX-License-Identifier: Apache-2.0
#include "engine/one_step_kl.h"

#include <cassert>
#include <memory>
#include <numeric>

#include "engine/statistics.h"

namespace lamina {

std::vector<double> one_step_kl(const Subject& subject, Specs specs, const PromptedWindows& text) {
  Model& model = subject.model;
  std::vector<std::shared_ptr<const KvSpec>> all(specs.begin(), specs.end());
  all.insert(all.begin(), std::make_shared<const KvSpec>(KvSpec::parse("full", model.shape())));
  const std::size_t size = text.windows.front().size(), prompt = text.prompt, rows = size - prompt;
  assert(1 <= prompt && prompt < size);
  const auto vocab = static_cast<std::size_t>(model.config().vocab);
  const auto context = static_cast<Pos>(size);
  const auto groups = shared_prompts(all, model.shape(), context);  // the dense cache is in the first
  std::vector<float> base;                                          // [row][vocab]
  Workspace work;
  std::vector<double> sums(all.size(), 0), row_kl(rows);
  for (const std::vector<Token>& window : text.windows)
    for (const std::vector<std::size_t>& group : groups) {
      Prompted prompted =
          prompt_all(model, subject.pool, all, group, context, subject.batch, std::span(window).first(prompt));
      for (std::size_t member = 0; member < group.size(); ++member) {
        KvSequence& kv = prompted.sessions[member].kv();
        // not as a prompt, whose products are less exact: whatever a spec changes would meet other roundings
        const Chunk chunk{.kv = &kv, .tokens = std::span(window).subspan(prompt), .logits = Chunk::Logits::kAll};
        const std::span<const float> logits = model.forward({&chunk, 1}, work, subject.pool);
        kv.discard();
        if (group[member] == 0) base.assign(logits.begin(), logits.end());
        subject.pool.parallel_for(static_cast<int>(rows), [&](int task, int) {
          const auto row = static_cast<std::size_t>(task);
          const auto of = [&](std::span<const float> x) { return x.subspan(row * vocab, vocab); };
          row_kl[row] = compare_token(of(base), of(logits), 0).kl;
        });
        sums[group[member]] += std::accumulate(row_kl.begin(), row_kl.end(), 0.0);
        subject.on_step();
      }
    }
  sums.erase(sums.begin());
  for (double& sum : sums) sum /= static_cast<double>(rows * text.windows.size());
  return sums;
}

}  // namespace lamina
