// SPDX-License-Identifier: Apache-2.0
// Whether a model and a KV spec do on this machine what they should: a row of checks, each with a verdict, the figures
// behind it and where they would turn yellow or red.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/machine.h"
#include "engine/row_audit.h"
#include "engine/session.h"
#include "engine/statistics.h"
#include "model/forward.h"
#include "text/tokenizer.h"

namespace lamina {

enum class Health : std::uint8_t { kGreen, kYellow, kRed };
const char* name(Health health);

struct Figure {
  std::string name;
  double value = 0;
  // Where it turns: above them, or, of a figure that should be large, below. None: it has no say.
  std::optional<double> yellow{}, red{};
  bool should_be_large = false;

  Health health() const;  // red where it is not a number
};

struct Finding {
  std::string check;  // "tokenizer"
  Health health = Health::kGreen;
  std::string reason{};  // a sentence
  std::vector<Figure> figures{};
};
// With the worst of the figures' health.
Finding judged(std::string check, std::vector<Figure> figures);
Health worst(std::span<const Finding> findings);

struct Patient {
  Model& model;
  const Tokenizer& tokenizer;
  ThreadPool& pool;
  std::shared_ptr<const KvSpec> spec;
  int batch = 512;
};

struct Examination {
  std::function<void(const char* check)> on_check = [](const char*) {};  // before each; it may throw to end the work
  // Called with the session under the spec between its prompt and what is decoded after it.
  std::function<void(Session&)> after_prompt = [](Session&) {};
  double machine_seconds = 0.3;  // for each figure of what the machine can do
};
// All checks on texts of their own, in the order of the functions below.
std::vector<Finding> examine(const Patient& patient, const Examination& examination = {});

// The tokens of the story, up to `most`, with the model's BOS where it asks for one.
std::vector<Token> story_tokens(const Tokenizer& tokenizer, std::size_t most);

// ---- one function for each check
// -------------------------------------------------------------------------------------

// Texts of many kinds become tokens and the same bytes again.
Finding check_tokenizer(const Tokenizer& tokenizer);
// The dense logits of a prompt beside those by another instruction set's kernels, in steps of another size.
Finding check_recomputation(const Patient& patient, std::span<const Token> tokens);
// A dense prompt at once, in pieces, and with its last tokens decoded one by one.
Finding check_increments(const Patient& patient, std::span<const Token> tokens);

// A prompt and what is decoded after it, token by token side by side: dense, under the spec, and under the spec once
// more, in steps of another size and by one thread.
struct Trial {
  std::vector<TokenScore> scores{};      // [decoded token] the spec's beside the dense
  RowAudit states{};                     // after the prompt, beside the second computation
  std::optional<RowAudit> dense_rows{};  // beside the dense cache, where the spec stores what that does
  std::string failure{};                 // what ended the decoding early, where something did
  std::size_t different_logits = 0;      // decoded tokens whose logits are not the second computation's
  KvBytes bytes{};                       // at the end
  std::size_t peak_bytes = 0;
  std::size_t step_bytes = 0;  // that a step of decoding reads: weights and cache
  double step_seconds = 0;     // the median; 0: none was measured
  Pos prompt = 0, decoded = 0;
  double kept_fraction = 1;  // of the rows, at the end
};
Trial run_trial(const Patient& patient, std::span<const Token> tokens,
                const std::function<void(Session&)>& after_prompt);

// How far the spec is from the dense cache, early, in the middle and late in what is decoded.
Finding check_drift(const Trial& trial);
// Whether the cache holds what it should: see Trial.
Finding check_cache(const Trial& trial);
// The bytes held beside those that plan_kv says. Yellow where a method that drops rows has dropped none: then nothing
// here tells what it costs.
Finding check_bytes(const Patient& patient, const Trial& trial);
// A step of decoding beside the time that the machine needs to read its bytes.
Finding check_speed(const Trial& trial, const MachineLimits& limits);

}  // namespace lamina
