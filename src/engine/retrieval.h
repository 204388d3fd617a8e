// SPDX-License-Identifier: Apache-2.0
// How much of what is hidden in contexts is found again under KV specs, beside the dense cache. What the dense cache
// does not find tells nothing of a spec: a task where it finds less than half is not reported.
#pragma once
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/ask.h"
#include "kv/types.h"

namespace lamina {

struct RetrievalScore {                                // of one spec
  double found = 0;                                    // share of the expected strings, averaged over answers
  double kept_fraction = 0, kv_bytes = 0, length = 0;  // of the cache after the commit, averaged over contexts
};
using ScoresByAsked = std::array<RetrievalScore, 2>;  // [Asked]

struct RetrievalResult {
  static constexpr double kLeastDense = 0.5;

  std::size_t items = 0, answers = 0;  // of each spec and way of asking
  ScoresByAsked dense{};
  std::vector<ScoresByAsked> specs{};  // [spec]; empty where not reported

  double dense_found() const;  // the lower of the two
  bool is_reported() const { return dense_found() >= kLeastDense; }
};

// One answer as it comes.
struct RetrievalAnswer {
  const KvSpec& spec;
  const Question& question;
  const Answer& answer;
  Asked when;
};
using OnAnswer = std::function<void(const RetrievalAnswer& answer)>;

// Specs that share their prompt with the dense cache are measured with it, the others once it is known that the task is
// reported.
RetrievalResult measure_retrieval(const Asker& asker, const KvShape& shape, Specs specs,
                                  std::span<const ContextQuestions> items, const OnAnswer& on_answer = {});

}  // namespace lamina
