// SPDX-License-Identifier: Apache-2.0
// AXIS 2, tokens: which rows live on. A policy is a const object without per-request state, shared by sequences.
#pragma once
#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kv/observe.h"
#include "kv/types.h"

namespace lamina {

enum class Phase { kPrompt, kPromptEnd, kDecode };  // when a commit happens; kPrompt only at `grid` boundaries

struct Step {
  Phase phase = Phase::kDecode;
  Pos length = 0;         // tokens so far: the next token gets this position
  Pos prompt_start = 0;   // where the latest prompt begins, of policies that go by_prompt(), else 0
  Pos prompt_length = 0;  // tokens of the text up to the latest prompt end; inside a prompt up to here
  Pos appended = 1;       // tokens that the step has added
  Pos window = 0;         // sliding window of the slot's layers; 0: none
  int slot = 0, slots = 1;
  Pos prompt() const { return prompt_length - prompt_start; }  // tokens that a budget is a fraction of
};

// What is known of a text when a step begins.
struct Ahead {
  static constexpr Pos kUnknown = std::numeric_limits<Pos>::max();
  Phase phase = Phase::kDecode;  // kPromptEnd: as kPrompt
  Pos length = 0;                // tokens so far
  Pos prompt_end = 0;            // where the prompt will end, in decode where it has ended
  int grid = 0;                  // distance of commits inside the prompt; 0: there are none
  // Where rows may go next in a prompt.
  Pos next_commit() const { return length + std::min(prompt_end - length, grid > 0 ? grid - length % grid : kUnknown); }
};

// Which of the layers that read a slot are observed, and how their sums become one.
enum class Readers : std::uint8_t { kOwner, kSum, kMax };

// Rows that live and die together: those of one KV head, or of all heads of a slot. A value per row, ascending by
// position.
struct HeadRows {
  std::span<const Pos> pos;
  std::span<const float> mass{};  // [rows][reader][head][query head][kind], see Observe; empty: nothing was observed
  int readers = 1;                // layers; each has sums of its own, whose order no cut of a prompt changes
  int columns = 0;                // of one reader
  Readers combined{};
  int kinds = 1;                            // of the columns, for each head
  std::span<const float> key_norms{};       // [rows] Euclidean, of policies that read keys; may be empty
  std::span<const float> keys{};            // [rows][head_dim] with rope, of policies that read rows; may be empty
  std::span<const float> value_norms{};     // [rows] likewise
  std::span<const QueryMoments> queries{};  // [query head] of the prompt, of policies that observe them
  std::span<const TokenClass> classes{};    // [position], of policies that read classes; may be empty
  std::uint8_t* tag = nullptr;              // what the policy remembers of the set; 0 at first

  // What the row was given in all heads: the sum over the readers, or the most of any.
  double total(std::size_t row, int kind = 0) const { return readers * columns == 1 ? mass[row] : sum_of(row, kind); }
  // The same of one of the columns / kinds heads.
  double part(std::size_t row, int head, int kind) const;
  // The rows from position `first` on.
  HeadRows from(Pos first) const;

 private:
  double sum_of(std::size_t row, int kind) const;
  // What fn(first column of a reader) gives, of all readers.
  template <class Fn>
  double combine(std::size_t row, Fn fn) const;
};

// Rows that are kept whatever attention gave them: by class, the first of the text, and those from a position on.
struct Held {
  std::array<bool, kTokenClasses> classes{};
  bool first = false;
  Pos local = std::numeric_limits<Pos>::max();
  bool holds(const HeadRows& rows, std::size_t row) const {
    const Pos pos = rows.pos[row];
    return pos >= local || (first && pos == 0) ||
           (!rows.classes.empty() && classes[static_cast<std::size_t>(rows.classes[static_cast<std::size_t>(pos)])]);
  }
};

// In decode: while more than `budget` rows are not held the one of the least sum goes, of equal ones that of the
// highest position; if there is a budget, the newest row never in its own step.
struct Fade {
  std::size_t budget = 0;
  Held held{};
  Pos newest = 0;  // so many rows at the end are held too
};

using Keep = std::vector<std::uint32_t>;  // rows to keep, ascending
Keep every_row(const HeadRows& rows);

// Drops, of the first `candidates` rows of the list, the `dropped` ones of the lowest score; of equal scores the lower
// position stays. In decode that is one row: then the list is searched, not sorted.
template <class Score>
void drop_lowest(Keep& keep, std::size_t candidates, std::size_t dropped, Score score);

// Every row, or, where there are more than `budget`, so many: the last `newest` ones and of the others those of the
// highest score.
template <class Score>
Keep keep_highest(const HeadRows& rows, std::size_t budget, std::size_t newest, Score score);

// The same by a look at all rows: of all that are in `keep` those that go.
void fade(const HeadRows& rows, const Fade& fade, Keep& keep);

class TokenPolicy {
 public:
  virtual ~TokenPolicy() = default;
  // The policy as a canonical spec term, defaults omitted: "streaming(window=512)".
  virtual std::string text() const = 0;
  // Leading rows of the text that the policy always keeps: they live in a run of their own.
  virtual int pinned_rows() const { return 0; }
  // Rows are re-numbered without gaps: the pinned run is seen as if it stood directly before the rest.
  virtual bool renumbers() const { return false; }
  // What attention measures in the step. Sums of queries before the first one that it names are forgotten.
  virtual Observe observes(const Ahead& /*ahead*/) const { return {}; }
  // Wants the norms of keys at a commit of this phase. (Not of layers whose keys are merged.)
  virtual bool reads_keys(Phase /*phase*/) const { return false; }
  // Wants keys and the norms of values at a commit of this phase. (Not of layers that are merged.)
  virtual bool reads_rows(Phase /*phase*/) const { return false; }
  // Wants to know what the tokens are.
  virtual bool reads_classes() const { return false; }
  // After a prompt the model is asked to repeat it, so many tokens at a time (engine/context_probe.h), and only those
  // queries are observed; 0: it is not.
  virtual Pos probes() const { return 0; }
  virtual Readers readers() const { return Readers::kOwner; }
  // Each KV head has rows of its own. (A pair of layers that MiniCache merges still has one set for all its heads.)
  virtual bool by_head() const { return false; }
  // What is kept depends on the request's own queries, so no other request may start from it.
  virtual bool request_bound() const { return false; }
  // Of the rows that are not pinned only the oldest go.
  virtual bool oldest_first() const { return false; }
  // Of a text of several prompts: each is chosen from by itself, with a budget of its own, and what is left of those
  // before it and of their answers stays. So do all policies that choose at a prompt's end and not in decode; others
  // see all rows of the text.
  virtual bool by_prompt() const { return false; }
  // Whether rows may go at the step's commit; else every row is kept and select() need not be asked.
  virtual bool selects(const Step& /*step*/) const { return true; }
  // Where all that select() would do to a set with this tag in decode is a Fade: the store does it without a look at
  // every row (kv/fading.h), where it can.
  virtual std::optional<Fade> fades(const Step& /*step*/, std::uint8_t /*tag*/) const { return std::nullopt; }
  // The rows to keep of each set of a slot.
  virtual void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const = 0;
  // Whether rows of a prompt go between layers already, so that the higher ones compute less. Such a prompt is one
  // step.
  virtual bool prunes() const { return false; }
  // Of the rows of a prompt that `layer` has computed, those that the next layer gets. `rows`: of all heads, with what
  // that layer's queries gave them. The prompt has the positions [start, length).
  virtual Keep prune(int /*layer*/, int /*layers*/, Pos /*start*/, Pos /*length*/, const HeadRows& rows) const {
    return every_row(rows);
  }
  // The most rows of a head that select() keeps of a text of up to `length` tokens with one prompt, for admission.
  virtual Pos most_rows(Pos length, Pos prompt_length) const = 0;
};

template <class Score>
void drop_lowest(Keep& keep, std::size_t candidates, std::size_t dropped, Score score) {
  const auto end = keep.begin() + static_cast<std::ptrdiff_t>(candidates);
  if (dropped == 0) return;
  if (dropped == 1) {
    auto lowest = keep.begin();
    double least = score(*lowest);
    for (auto row = lowest; row != end; ++row) {
      const double x = score(*row);
      if (x <= least) lowest = row, least = x;
    }
    keep.erase(lowest);
    return;
  }
  std::vector<std::pair<double, std::uint32_t>> scored;
  scored.reserve(candidates);
  for (auto row = keep.begin(); row != end; ++row) scored.emplace_back(score(*row), *row);
  const auto kept = scored.begin() + static_cast<std::ptrdiff_t>(candidates - dropped);
  std::nth_element(scored.begin(), kept, scored.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::sort(scored.begin(), kept, [](const auto& a, const auto& b) { return a.second < b.second; });
  std::transform(scored.begin(), kept, keep.begin(), [](const auto& row) { return row.second; });
  keep.erase(end - static_cast<std::ptrdiff_t>(dropped), end);
}

template <class Score>
Keep keep_highest(const HeadRows& rows, std::size_t budget, std::size_t newest, Score score) {
  assert(newest <= budget);
  Keep keep = every_row(rows);
  if (keep.size() > budget) drop_lowest(keep, keep.size() - newest, keep.size() - budget, score);
  return keep;
}

}  // namespace lamina
