// SPDX-License-Identifier: Apache-2.0
// Tokens of a prompt that its token policy keeps from the layers above (design 3.4, 6): their states close up.
#include <malloc.h>

#include <algorithm>
#include <utility>

#include "model/forward_step.h"

namespace lamina {

void Workspace::give_back() {
  constexpr std::size_t kLarge = std::size_t{1} << 18;  // giving memory back to the system takes a while
  const bool large = gate.size() + up.size() > kLarge;
  Workspace fresh(isa);
  std::swap(fresh.logits, logits);
  std::swap(fresh.ropes, ropes);
  fresh.profile = profile;
  *this = std::move(fresh);
  if (large) ::malloc_trim(0);
}

void Model::prune(Step& step, int layer) {
  const auto prunes = [](const Chunk& chunk) { return chunk.prompt && chunk.kv->spec().prunes(); };
  if (std::none_of(step.chunks.begin(), step.chunks.end(), prunes)) return;
  Workspace& work = step.work;
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  std::vector<std::size_t> rows;
  std::size_t to = 0;
  const auto move = [&](std::size_t from) {
    work.positions[to] = work.positions[from];
    if (from != to) std::copy_n(&work.x[from * hidden], hidden, &work.x[to * hidden]);
    ++to;
  };
  step.each_chunk([&](const Chunk& chunk, std::size_t first, std::size_t n) {
    const std::size_t begin = to;
    if (prunes(chunk)) {
      const int tokens = static_cast<int>(chunk.tokens.size());
      for (const std::uint32_t row : chunk.kv->survivors(LayerId{layer}, tokens, step.positions(first, n)))
        move(first + row);
    } else {
      for (std::size_t row = first; row < first + n; ++row) move(row);
    }
    rows.push_back(to - begin);
  });
  step.rows = rows;
  step.tokens = to;
  work.positions.resize(to);
  step.mark_inputs();
}

}  // namespace lamina
