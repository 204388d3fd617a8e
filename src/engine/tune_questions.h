// SPDX-License-Identifier: Apache-2.0
// Specs that `lamina tune` asks about together, and where their answers go.
#pragma once
#include <memory>
#include <vector>

#include "engine/one_step_kl.h"

namespace lamina {

class Questions {
 public:
  explicit Questions(const KvShape& shape);

  // Null: a spec that cannot be; the answer stays as it is. `answer` must outlive ask().
  void add(double& answer, std::shared_ptr<const KvSpec> spec);
  // KL of each in one step. Rotation alone moves the output a little, whatever of it is encoded: it is taken off.
  void ask(const Subject& subject, const PromptedWindows& text);

 private:
  std::vector<std::shared_ptr<const KvSpec>> specs_;  // the first is rotation alone
  std::vector<double*> answers_;                      // [spec but the first]
};

}  // namespace lamina
