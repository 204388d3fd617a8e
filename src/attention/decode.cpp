// SPDX-License-Identifier: Apache-2.0
// The decode path: each partition of rows is read once for all query rows of its KV head.
#include <algorithm>
#include <array>
#include <cmath>

#include "attention/attend_call.h"
#include "kv/bits/hadamard.h"

namespace lamina {
namespace {

// The first keys, which arrive while the query is made ready.
[[gnu::always_inline]] inline void prefetch_first(const TileRun& keys, std::uint32_t code_bytes) {
  for (int t = 0; t < std::min(keys.ahead, keys.tiles()); ++t) {
    for (std::uint32_t i = 0; i < code_bytes; i += 64) __builtin_prefetch(keys.codes[t] + i);
    if (keys.scales) __builtin_prefetch(keys.scales[t]);
  }
}

// Where the tiles of a partition lie that is taken later.
[[gnu::always_inline]] inline void prefetch_blocks(const Partition& partition) {
  const Segment& segment = *partition.segment;
  const std::uint32_t tile = partition.rows.first / kTileRows;
  for (const Plane* plane : {&segment.k_codes, &segment.k_scales, &segment.v_codes, &segment.v_scales})
    if (*plane) __builtin_prefetch(plane->block(tile));
}

// Partitions in the order in which threads take them: several at a time, the last ones singly.
class Taker {
 public:
  Taker(NextPartition& next, int all, int threads)
      : next_(next),
        together_(std::clamp(all / (32 * threads), 1, 8)),
        whole_(std::max(0, all - 8 * threads) / together_) {}
  int take() {  // `all` or more: there are none
    if (++at_ < end_) return at_;
    const int taken = next_.fetch_add(1, std::memory_order_relaxed), singles = taken - whole_;
    at_ = singles < 0 ? taken * together_ : whole_ * together_ + singles;
    end_ = at_ + (singles < 0 ? together_ : 1);
    return at_;
  }

 private:
  NextPartition& next_;
  int together_, whole_;
  int at_ = 0, end_ = 0;
};

bool same_queries(const Partition& a, const Partition& b) {
  return a.query == b.query && a.kv_head == b.kv_head && a.segment->shift == b.segment->shift;
}

}  // namespace

void Attention::gather_queries(const Partition& partition, ThreadBuffers& thread) const {
  const Query& query = queries_[partition.query];
  const int tokens = static_cast<int>(query.pos.size());
  grow(thread.queries.q, static_cast<std::size_t>(tokens * group_) * static_cast<std::size_t>(dim_));
  gather_queries(query, partition.kv_head, 0, tokens, partition.segment->shift, thread.queries.q.data());
}

void Attention::run_partitions(NextPartition& next, ThreadBuffers& thread) const {
  const int all = static_cast<int>(buffers_.partitions.size()), threads = static_cast<int>(buffers_.threads.size());
  Taker taker(next, all, threads);
  int taken = 0;
  const auto take = [&](std::vector<const std::byte*>& pointers, Tiles& tiles) -> const Partition* {
    taken = taker.take();
    if (taken >= all) return nullptr;
    const Partition* const partition = &buffers_.partitions[static_cast<std::size_t>(taken)];
    tiles = tiles_of(memory_, *partition->segment, partition->rows, dim_, pointers);
    if (taken + 1 < all) prefetch_blocks(partition[1]);
    return partition;
  };
  Tiles tiles, tiles_after;
  bool asked = false;
  const Partition* before = nullptr;
  for (const Partition* partition = take(thread.pointers, tiles); partition != nullptr;) {
    // Taken early: what its keys are is known while the values before them are read. The last ones go to whoever is
    // ready for them.
    const Partition* after = taken < all - 2 * threads ? take(thread.next_pointers, tiles_after) : nullptr;
    read_ahead(tiles, *partition->segment, after ? &tiles_after : nullptr);
    if (!asked) prefetch_first(tiles.keys, partition->segment->k_codes.tile_bytes);
    if (before == nullptr || !same_queries(*before, *partition)) gather_queries(*partition, thread);
    run_partition(*partition, tiles, thread);
    before = partition;
    asked = after != nullptr;
    partition = asked ? after : take(thread.next_pointers, tiles_after);
    std::swap(tiles, tiles_after);
    std::swap(thread.pointers, thread.next_pointers);
  }
}

void Attention::run_partition(const Partition& partition, const Tiles& tiles, ThreadBuffers& thread) const {
  const Query& query = queries_[partition.query];
  const Segment& segment = *partition.segment;
  const int rows = static_cast<int>(query.pos.size()) * group_;
  const auto stride = static_cast<std::size_t>(tiles.padded_rows());
  grow(thread.scores, static_cast<std::size_t>(rows) * stride);

  // Observed weights are read once more when those of all partitions are known.
  const bool kept = query.observation.apart;
  float* const to_keep = kept ? buffers_.weights.data() + partition.weights : nullptr;
  float* scores = kept && !tiles.v_gains ? to_keep : thread.scores.data();
  kernels_.score[static_cast<int>(segment.k_format)](tiles.keys, thread.queries.q.data(), rows, scores, stride);
  for (int i = 0; i < rows; ++i) {
    if (tiles.k_gains) kernels_.apply_gains(tiles.k_gains, tiles.keys.tiles(), scores + i * stride);
    mask(scores + i * stride, tiles,
         intersection(partition.rows, visible_rows(segment, query.sees, query.pos[i / group_])));
  }
  float* max = buffers_.partials.data() + partition.partial;
  float* sum = max + rows;
  float* out = sum + rows;
  std::fill(max, max + rows, kNoScore);
  std::fill(sum, out + static_cast<std::ptrdiff_t>(rows) * dim_, 0.0F);
  kernels_.fold({scores, stride, rows, tiles.padded_rows(), max, sum, out, dim_});
  if (kept && scores != to_keep) std::copy_n(scores, static_cast<std::size_t>(rows) * stride, to_keep);
  if (tiles.v_gains)
    for (int i = 0; i < rows; ++i) kernels_.apply_gains(tiles.v_gains, tiles.keys.tiles(), scores + i * stride);
  kernels_.mix[static_cast<int>(segment.v_format)](tiles.values, scores, stride, rows, out);
}

void Attention::run_merge(const Merge& merge) const {
  const Query& query = queries_[merge.query];
  const int rows = static_cast<int>(query.pos.size()) * group_;
  const std::size_t count = merge.last_partition - merge.first_partition;
  const std::size_t first = count > 0 ? buffers_.partitions[merge.first_partition].partial : 0;
  const float* partials = buffers_.partials.data() + first;
  for (int i = 0; i < rows; ++i)
    merge_row(partials, count, rows, i, query, i / group_, merge.kv_head * group_ + i % group_);
  if (query.observation.apart) observe_merged(merge);
}

// Query row i of `rows`: the fold of its `count` partial results, in order.
void Attention::merge_row(const float* partials, std::size_t count, int rows, int i, const Query& query, int token,
                          int head) const {
  std::array<float, kMaxHeadDim> out;
  Merged merged = {.stride = static_cast<std::size_t>(rows) * (2 + static_cast<std::size_t>(dim_)),
                   .parts = count,
                   .to = out.data(),
                   .dim = dim_,
                   .wants_log = query.lse != nullptr};
  if (count > 0) {
    merged.max = partials + i;
    merged.sum = partials + rows + i;
    merged.out = partials + 2 * rows + static_cast<std::ptrdiff_t>(i) * dim_;
  }
  const float lse = kernels_.merge(merged);
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(token) * shape_.heads + head;
  float* const to = query.out + at * shape_.head_dim;
  std::copy_n(out.data(), shape_.head_dim, to);
  if (query.rotate) hadamard(to, shape_.head_dim);
  if (query.lse) query.lse[at] = lse;
}

}  // namespace lamina
