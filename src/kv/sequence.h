// SPDX-License-Identifier: Apache-2.0
// KvSequence: the rows of one request, a slot for each layer or group of layers that shares storage (kv/slot.h). Only
// append and commit change what attention sees, so between two commits all segments are stable; commit is the only code
// that destroys information.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kv/pages.h"
#include "kv/slot.h"
#include "kv/spec.h"

namespace lamina {

class KvSequence {
 public:
  // The pool must have been made for the same shape and a format as wide as the spec's, and must outlive the sequence.
  KvSequence(std::shared_ptr<const KvSpec> spec, const KvShape& shape, BlockPool& pool);
  ~KvSequence();
  KvSequence(KvSequence&& other) noexcept;
  KvSequence& operator=(KvSequence&& other) noexcept;
  KvSequence& operator=(const KvSequence&) = delete;

  // Rows of these positions, ascending from length() on, written by `layer`; what the layer has appended from the first
  // of them on since the last commit is replaced (LCKV's passes). Positions may be missing where the policy prunes.
  // k, v: [pos][kv_heads][head_dim] float32, k with rope applied. Only for layers whose route writes.
  void append(LayerId layer, std::span<const Pos> pos, const float* k, const float* v);
  void append(LayerId layer, Pos first, int tokens, const float* k, const float* v);  // [first, first + tokens)

  // What `layer` reads: [kv_head] lists of segments, valid until the next append or commit, or until another layer of
  // its slot asks.
  std::span<const std::span<const Segment>> segments(LayerId layer);

  // A prompt of so many tokens begins, in one step or in several. Needed by policies that observe its last queries.
  void expect_prompt(Pos tokens);
  Pos expected_prompt() const { return prompt_end_ - (in_prompt_ ? prompt_start_ : length_); }  // its tokens
  // What the tokens are that come after the first `first` ones, for policies that go by it.
  bool wants_classes() const { return wants_classes_; }
  void note_classes(Pos first, std::span<const TokenClass> classes);
  // Where attention adds up what the spec's token policy wants to know of the queries of `layer` in this step, after
  // its rows were appended; nothing to observe is an empty one. Valid as segments() is.
  Observation observe(LayerId layer, int tokens, bool prompt);
  // In a step of a prompt of `tokens` tokens, after the attention of `layer`, which had the rows of `pos`: which of
  // them the next layer gets. All, unless the policy prunes and the layer was observed.
  Keep survivors(LayerId layer, int tokens, std::span<const Pos> pos);

  // Ends a step in which `appended` tokens were appended and the first `accepted` of them are to stay: drops the
  // others' rows, then evict -> merge -> encode, unless the step is inside a prompt and not at a grid boundary.
  // The slots' choices are made beside each other where there are threads.
  void commit(Phase phase, int appended, int accepted, ThreadPool* threads = nullptr);
  void commit(Phase phase, int tokens, ThreadPool* threads = nullptr) { commit(phase, tokens, tokens, threads); }

  // A probe: tokens that are fed after the prompt's like its own, whose attention is observed, and that are never
  // committed. keep_probe() ends each of its steps, discard() the whole; what was observed of the prompt's rows stays.
  void begin_probe() { probed_ = 0; }
  void keep_probe(int tokens);

  // Drops what was appended since the last commit: for a step that failed half-way, and at the end of a probe.
  void discard();

  // How many of the `left` tokens of a prompt its next step takes: up to `batch`, and no further than a grid boundary,
  // where a commit happens; all of them if the policy prunes.
  int prompt_step(Pos left, int batch) const;

  // Forgets the tokens from position `length` on. Error with the reason where that state cannot be had back.
  void truncate(Pos length);
  // An independent sequence in the same state; rows are shared until one of the two writes.
  KvSequence fork() const;

  Pos length() const { return length_; }                      // tokens of the text so far
  Pos next() const { return length_ + probed_.value_or(0); }  // the position that the next step appends at
  const KvSpec& spec() const { return *spec_; }
  const KvShape& shape() const { return shape_; }
  const BlockMemory& memory() const { return pool_->memory(); }
  // What the token policy sees of a slot's rows: a set for each KV head, or one for all.
  struct Sets {
    std::vector<Slot::Listed> lists;
    std::vector<std::vector<float>> key_norms, keys, value_norms;
    std::vector<HeadRows> rows;  // of these; valid as long as the sequence is not changed
  };
  Sets sets(SlotId slot, Phase phase);
  std::vector<std::size_t> live_rows(SlotId slot) const;  // of each set
  KvBytes bytes() const;
  // Rows held over rows that the text would have, averaged over the slots (window layers: rows within the window).
  double kept_fraction() const;
  MergeCount merged() const;                                    // of all pairs of layers
  MergeCount merged(SlotId slot) const;                         // none where it is not a pair's
  std::size_t encoded_bytes() const { return encoded_bytes_; }  // that commits have written so far as codes and scales

 private:
  // The rows of one slot: a part for all KV heads, or, where the token policy keeps other rows in each, one for each.
  struct Parts {
    const TokenPolicy* policy = nullptr;  // null: every row lives on
    std::vector<Slot> slots;
    std::vector<LayerId> readers;                   // the layers that the policy observes
    std::optional<int> only_head{};                 // whose rows may go
    std::vector<std::span<const Segment>> heads{};  // of several parts: what segments() returns
    std::vector<float*> mass{};                     // and observe()
    // [query head] of the prompt so far, and with this step's, which a commit makes so
    std::vector<QueryMoments> queries{}, staged_queries{};
    std::vector<std::vector<Pos>> gone{};  // of each set, in a commit: the rows that the policy drops
  };

  KvSequence(const KvSequence& other);
  std::span<const std::span<const Segment>> segments(SlotId slot, int view);
  // What is known before a step of so many tokens; 0: of the next one, whatever it will be.
  Ahead ahead(Phase phase, int tokens) const;
  // The step's accepted tokens into the text.
  void take(Phase phase, int appended, int accepted, ThreadPool* threads);
  void forget(Parts& parts, Phase next);
  std::string why_not_truncate(Pos length) const;
  HeadRows head_rows(const Parts& parts, Slot& slot, Phase phase) const;
  bool fade(Parts& parts, const Step& step);
  void select(Parts& parts, SlotId slot, const Step& step);
  void choose(Parts& parts, SlotId slot, Step step);
  bool evict(Parts& parts);
  template <class Fn>
  void each_part(ThreadPool* threads, Fn fn);  // fn(parts, slot)
  template <class Fn>
  void each_slot(Fn fn) {
    for (Parts& parts : parts_)
      for (Slot& slot : parts.slots) fn(slot);
  }
  template <class Fn>
  void each_slot(Fn fn) const {
    for (const Parts& parts : parts_)
      for (const Slot& slot : parts.slots) fn(slot);
  }

  std::shared_ptr<const KvSpec> spec_;
  KvShape shape_;
  BlockPool* pool_;
  std::vector<Parts> parts_;  // [slot]
  Pos length_ = 0, prompt_start_ = 0, prompt_length_ = 0, prompt_end_ = 0;
  bool in_prompt_ = false;           // some of whose tokens are committed
  std::optional<Pos> probed_;        // in a probe: its tokens so far
  std::vector<TokenClass> classes_;  // [position] if the policy wants them
  bool wants_classes_ = false;
  bool evicted_ = false;  // the policy has dropped rows
  std::size_t encoded_bytes_ = 0;
};

// Ends a step of which each sequence had so many tokens: commit() of all, beside each other.
void commit_all(std::span<KvSequence* const> sequences, Phase phase, int tokens, ThreadPool& threads);

// Address space for whatever a sequence of any spec holds at its peak: raw and encoded rows of a text of `length`
// tokens, each as f32, and a few blocks for every plane that has just begun. Only what is written takes memory.
std::size_t most_bytes(const KvShape& shape, Pos length);

// Bytes that a spec needs for a text: found by running the store itself against a pool that only counts, so they equal
// what is then allocated (but for a tile or two of each head where the rows kept depend on data; of MiniCache an
// estimate, with the share `keep` of the rows kept apart whatever the rule).
struct KvPlan {
  KvBytes steady;          // after the prompt and `decoded` tokens
  std::size_t peak_bytes;  // the most held at any time, the prompt's raw rows included
};
KvPlan plan_kv(const std::shared_ptr<const KvSpec>& spec, const KvShape& shape, int prompt, int decoded, int batch);
// What the dense f16 cache holds at this length.
KvBytes dense_bytes(const KvShape& shape, Pos length);

}  // namespace lamina
