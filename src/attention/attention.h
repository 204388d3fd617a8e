// SPDX-License-Identifier: Apache-2.0
// Attention on segments: rows are read as they are stored and folded with an online softmax, so how many segments
// there are, how long they are and how they are written never matters.
//
// A sequence's result depends, bit for bit, on nothing but its own query: not on the threads, not on the other queries
// of the call. Few query rows take the decode path (each partition of rows is read once for all of them), many take
// the prompt path (tiles of queries by blocks of rows, as products of float32 matrices). The two agree to the bit on
// float rows; on rows of codes, which decode multiplies as integers, they differ in rounding, so there the tokens of a
// prompt take the prompt path however few of them come at once.
#pragma once
#include <memory>
#include <span>

#include "attention/rope.h"
#include "base/thread_pool.h"
#include "kernels/attend.h"
#include "kv/observe.h"
#include "kv/segment.h"

namespace lamina {

struct AttentionShape {
  int heads = 0;  // query heads; head h reads the rows of KV head h / (heads / kv_heads)
  int kv_heads = 0;
  int head_dim = 0;  // at most kMaxHeadDim
  float scale = 1;
};

// Which positions a query sees: those up to its own, unless the layer says less.
struct Visibility {
  Pos window = 0;       // keys with pos > query - window are visible, the query's own included; 0: all
  bool lagged = false;  // a query does not see its own position (LCKV)
};

// The tokens of one sequence in one step.
struct Query {
  const float* q = nullptr;                            // [tokens][heads][head_dim], not rotated
  std::span<const Pos> pos;                            // [tokens], ascending
  std::span<const std::span<const Segment>> segments;  // [kv_heads]
  float* out = nullptr;  // [tokens][heads][head_dim]; exactly 0 where no row is visible; null: lse is known, rows are
                         // only observed
  Visibility sees{};
  float* lse = nullptr;  // [tokens][heads] or null: log-sum-exp of the scores, -inf where no row is visible
  bool prompt = false;   // rows of codes are read as on the prompt path even by a few tokens: see below
  bool rotate = false;   // the rows are stored rotated (kv/bits/hadamard.h): so is the query, and the output back
  // Where the weights that these queries give are added up. Of a decoded token they are at hand; a prompt's are
  // computed again from lse, which must not be null then, in a second pass over the keys: each row's sum runs over the
  // queries in order, so it does not depend, to the bit, on how a prompt is cut into steps. `far` is for prompts only.
  Observation observation{};
};

// Work lists and buffers, kept between calls so that attention does not allocate. For one call at a time.
class AttentionScratch {
 public:
  explicit AttentionScratch(const AttendKernels& kernels = attend_kernels(chosen_isa()));
  ~AttentionScratch();
  AttentionScratch(AttentionScratch&&) noexcept;
  AttentionScratch& operator=(AttentionScratch&&) noexcept;

  struct Buffers;
  Buffers& buffers() { return *buffers_; }

 private:
  std::unique_ptr<Buffers> buffers_;
};

// The rope's table must reach every position of the queries (Rope::reserve).
void attend(ThreadPool& pool, const BlockMemory& memory, const AttentionShape& shape, const Rope& rope,
            std::span<const Query> queries, AttentionScratch& scratch);

}  // namespace lamina
