// SPDX-License-Identifier: Apache-2.0
#include "attention/attention.h"

#include <algorithm>
#include <cassert>

#include "attention/attend_call.h"
#include "kv/bits/hadamard.h"

namespace lamina {
namespace {

constexpr int kDecodeQueryRows = 24;  // tokens x heads of a group up to which the decode path is faster

}  // namespace

bool takes_decode_path(const AttendKernels& kernels, const AttentionShape& shape, const Query& query, int kv_head) {
  const auto has_codes = [](const Segment& s) { return has_scales(s.k_format) || has_scales(s.v_format); };
  if (query.observation.apart) return true;
  if (meets_bytes(kernels, shape.head_dim, query)) return false;
  return static_cast<int>(query.pos.size()) * (shape.heads / shape.kv_heads) <= kDecodeQueryRows &&
         !(query.prompt && std::ranges::any_of(query.segments[kv_head], has_codes));
}

AttentionScratch::AttentionScratch(const AttendKernels& kernels) : buffers_(std::make_unique<Buffers>(kernels)) {}
AttentionScratch::~AttentionScratch() = default;
AttentionScratch::AttentionScratch(AttentionScratch&&) noexcept = default;
AttentionScratch& AttentionScratch::operator=(AttentionScratch&&) noexcept = default;

void Attention::plan() {
  buffers_.query_tiles.clear();
  buffers_.partitions.clear();
  buffers_.merges.clear();
  buffers_.observed.clear();
  buffers_.observed_queries.clear();
  buffers_.gathered.assign(queries_.size() * static_cast<std::size_t>(shape_.kv_heads), {});
  buffers_.meets_bytes.clear();
  buffers_.byte_blocks.clear();
  buffers_.byte_runs.clear();
  buffers_.first_byte_runs.assign(buffers_.gathered.size(), 0);
  const int tile_tokens = std::max(1, kPromptQueryRows / group_);
  for (int i = 0; i < static_cast<int>(queries_.size()); ++i) {
    buffers_.meets_bytes.push_back(meets_bytes(kernels_, shape_.head_dim, queries_[i]));
    const int tokens = static_cast<int>(queries_[i].pos.size());
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const Observation& observation = queries_[i].observation;
      assert(observation.mass.empty() || observation.apart != queries_[i].prompt);
      if (!observation.mass.empty() && !observation.apart) plan_observed(i, h);
      if (buffers_.meets_bytes.back() && tokens > 0) plan_bytes(i, h);
      if (queries_[i].out == nullptr) continue;
      if (takes_decode_path(kernels_, shape_, queries_[i], h)) {
        plan_partitions(i, h);
        continue;
      }
      // the last tiles see the most rows: they come first, so that the threads end together
      for (int first = (tokens - 1) / tile_tokens * tile_tokens; first >= 0; first -= tile_tokens)
        buffers_.query_tiles.push_back({i, h, first, std::min(tile_tokens, tokens - first)});
    }
  }
  grow(buffers_.partials, partial_floats_);
  grow(buffers_.weights, weight_floats_);
  grow(buffers_.observed_rows.q, observed_rows_ * static_cast<std::size_t>(dim_));
  if (std::ranges::find(buffers_.meets_bytes, true) != buffers_.meets_bytes.end())
    grow_bytes(buffers_.observed_rows, observed_rows_);
  grow(buffers_.bytes, bytes_ + 64);
}

void Attention::plan_partitions(int query, int kv_head) {
  const std::span<const Pos> pos = queries_[query].pos;
  const Visibility& sees = queries_[query].sees;
  if (pos.empty()) return;
  const std::size_t first_partition = buffers_.partitions.size();
  const std::size_t floats = pos.size() * static_cast<std::size_t>(group_) * (2 + static_cast<std::size_t>(dim_));
  for (const Segment& segment : queries_[query].segments[kv_head]) {
    const RowRange rows{visible_rows(segment, sees, pos.front()).first, visible_rows(segment, sees, pos.back()).last};
    for (std::uint32_t first = rows.first; first < rows.last;) {
      const std::uint32_t end = partition_end(first, rows);
      buffers_.partitions.push_back({query, kv_head, &segment, {first, end}, partial_floats_, weight_floats_});
      partial_floats_ += floats;
      if (queries_[query].observation.apart)
        weight_floats_ += pos.size() * static_cast<std::size_t>(group_) * RowRange{first, end}.padded();
      first = end;
    }
  }
  buffers_.merges.push_back({query, kv_head, first_partition, buffers_.partitions.size()});
}

// The query rows [token][head of the group] of one KV head: scaled, rotated for their distance to the run, padded.
void Attention::gather_queries(const Query& query, int kv_head, int first_token, int tokens, Pos shift,
                               float* q) const {
  for (int t = first_token; t < first_token + tokens; ++t)
    for (int j = 0; j < group_; ++j, q += dim_) {
      const std::ptrdiff_t head = static_cast<std::ptrdiff_t>(t) * shape_.heads + kv_head * group_ + j;
      const float* from = query.q + head * shape_.head_dim;
      for (int c = 0; c < shape_.head_dim; ++c) q[c] = from[c] * shape_.scale;
      std::fill(q + shape_.head_dim, q + dim_, 0.0F);
      rope_.rotate(q, query.pos[t] - shift);
      if (query.rotate) hadamard(q, shape_.head_dim);
    }
}

// The same, or where they have been gathered already.
TileQueries Attention::queries_for(int query, int kv_head, int first_token, int tokens, Pos shift,
                                   ThreadBuffers& thread) const {
  const auto dim = static_cast<std::size_t>(dim_);
  const Query& q = queries_[query];
  const Gathered& ready = gathered(query, kv_head);
  if (shift == 0 && first_token >= ready.first_token) {
    const std::size_t row = ready.at + static_cast<std::size_t>((first_token - ready.first_token) * group_);
    TileQueries queries{buffers_.observed_rows.q.data() + row * dim};
    if (buffers_.meets_bytes[query]) queries.bytes = bytes_of(buffers_.observed_rows, row, tokens * group_, q);
    return queries;
  }
  grow(thread.queries.q, static_cast<std::size_t>(tokens * group_) * dim);
  gather_queries(q, kv_head, first_token, tokens, shift, thread.queries.q.data());
  return {thread.queries.q.data()};
}

void attend(ThreadPool& pool, const BlockMemory& memory, const AttentionShape& shape, const Rope& rope,
            std::span<const Query> queries, AttentionScratch& scratch) {
  assert(shape.head_dim <= kMaxHeadDim && shape.heads % shape.kv_heads == 0);
  AttentionScratch::Buffers& buffers = scratch.buffers();
  grow(buffers.threads, static_cast<std::size_t>(pool.threads()));
  Attention attention(memory, shape, rope, queries, buffers);
  attention.plan();
  const int tiles = static_cast<int>(buffers.query_tiles.size());
  const int decoders = std::min(pool.threads(), static_cast<int>(buffers.partitions.size()));
  NextPartition next_partition;
  const int gathers = static_cast<int>(buffers.observed_queries.size());
  pool.parallel_for(gathers + static_cast<int>(buffers.byte_blocks.size()), [&](int task, int thread) {
    if (task < gathers)
      attention.gather_observed(buffers.observed_queries[task]);
    else
      attention.make_bytes(buffers.byte_blocks[task - gathers], buffers.threads[thread]);
  });
  pool.parallel_for(tiles + decoders, [&](int task, int thread) {
    if (task < tiles)
      attention.run_query_tile(buffers.query_tiles[task], buffers.threads[thread]);
    else
      attention.run_partitions(next_partition, buffers.threads[thread]);
  });
  pool.parallel_for(static_cast<int>(buffers.merges.size()),
                    [&](int task, int) { attention.run_merge(buffers.merges[task]); });
  pool.parallel_for(static_cast<int>(buffers.observed.size()), [&](int task, int thread) {
    attention.run_observed(buffers.observed[task], buffers.threads[thread]);
  });
  for (const Query& query : queries)
    if (!query.observation.queries.empty() && !query.pos.empty())
      pool.parallel_for(shape.heads, [&](int head, int) { attention.add_queries(query, head); });
}

}  // namespace lamina
