// SPDX-License-Identifier: Apache-2.0
// AXIS 2, tokens: which rows live on. A policy is a const object without per-request state, shared by sequences.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kv/types.h"

namespace lamina {

enum class Phase { kPrompt, kPromptEnd, kDecode };  // when a commit happens; kPrompt only at `grid` boundaries

struct Step {
  Phase phase = Phase::kDecode;
  Pos length = 0;         // tokens so far: the next token gets this position
  Pos prompt_length = 0;  // tokens of the text up to the latest prompt end
  int slot = 0, slots = 1;
};

// One KV head of one slot: a value per stored row, ascending by position. (What a policy observes joins here.)
struct HeadRows {
  std::span<const Pos> pos;
};

using Keep = std::vector<std::uint32_t>;  // rows to keep, ascending

class TokenPolicy {
 public:
  virtual ~TokenPolicy() = default;
  // The policy as a canonical spec term, defaults omitted: "streaming(window=512)".
  virtual std::string text() const = 0;
  // Leading rows of the text that the policy always keeps: they live in a run of their own.
  virtual int pinned_rows() const { return 0; }
  // Rows are re-numbered without gaps: the pinned run is seen as if it stood directly before the rest.
  virtual bool renumbers() const { return false; }
  // One keep list for all heads of the slot: the token set belongs to the slot. Ragged policies get a second entry
  // point when they exist.
  virtual Keep select(const Step& step, std::span<const HeadRows> heads) const = 0;
  // The most rows that select() keeps of a text of `length` tokens (for admission and `plan`).
  virtual Pos most_rows(Pos length, Pos prompt_length) const = 0;
};

}  // namespace lamina
