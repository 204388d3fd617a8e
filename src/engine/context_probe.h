// SPDX-License-Identifier: Apache-2.0
// What a model is asked so that its attention shows which rows of a prompt it needs to repeat it (KVzip,
// arXiv:2505.23416).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "model/forward.h"

namespace lamina {

class ContextProbe {
 public:
  explicit ContextProbe(const Model& model);

  // An instruction and a piece of the prompt each, to be fed after the prompt; from the second piece on the instruction
  // ends with the last tokens of the piece before.
  std::vector<std::vector<Token>> texts(std::span<const Token> prompt, std::size_t piece) const;
  // Feeds these after the prompt that `kv` has, before the commit that ends it; nothing of them stays but what was
  // observed. `after_step` is called while the rows of a step are held; where it gives false the probe ends, false.
  bool run(Model& model, ThreadPool& pool, Workspace& work, KvSequence& kv, std::span<const Token> prompt, int batch,
           const std::function<bool()>& after_step) const;
  static constexpr Pos kMostInstruction = 128;  // tokens of such a text beside the piece, if each were a byte

 private:
  std::vector<Token> first_, next_, end_;  // the instruction of the first piece, of the others, what ends both
};

}  // namespace lamina
