// SPDX-License-Identifier: Apache-2.0
#include "engine/shared_prompt.h"

#include <algorithm>

namespace lamina {

WithDense::WithDense(Specs given, const KvShape& shape) : specs(given.begin(), given.end()) {
  const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", shape));
  const auto at = std::ranges::find(specs, full->text(), [](const auto& spec) { return spec->text(); });
  dense = static_cast<std::size_t>(at - specs.begin());
  if (at == specs.end()) specs.push_back(full);
}

std::vector<std::vector<std::size_t>> shared_prompts(Specs specs, const KvShape& shape, Pos length) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 30;
  const std::size_t row = 2 * sizeof(std::uint16_t) * static_cast<std::size_t>(shape.kv_heads * shape.head_dim),
                    bytes = row * static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(length),
                    most = std::max<std::size_t>(1, kMostBytes / bytes);
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto group = std::ranges::find_if(
        groups, [&](const auto& g) { return g.size() < most && specs[g.front()]->same_prompt(*specs[i]); });
    if (group == groups.end())
      groups.push_back({i});
    else
      group->push_back(i);
  }
  return groups;
}

Prompted prompt_all(Model& model, ThreadPool& pool, Specs specs, std::span<const std::size_t> group, Pos context,
                    int batch, std::span<const Token> tokens, const Session::OnProgress& progress) {
  std::size_t bytes = 0;
  for (const std::size_t i : group) bytes += session_bytes(model.shape(), *specs[i], context);
  const auto blocks = std::make_shared<BlockPool>(model.shape(), bytes, specs[group.front()]->widest());
  Prompted prompted;
  prompted.sessions.reserve(group.size());
  std::vector<Session*> followers;
  for (const std::size_t i : group) {
    Session& session = prompted.sessions.emplace_back(
        model, pool, Session::Options{.spec = specs[i], .context = context, .batch = batch, .blocks = blocks});
    if (&session != prompted.sessions.data()) followers.push_back(&session);
  }
  const std::span<const float> logits = prompted.sessions.front().prompt(tokens, progress, followers);
  prompted.logits.assign(logits.begin(), logits.end());
  return prompted;
}

}  // namespace lamina
