// SPDX-License-Identifier: Apache-2.0
// What queries gave the rows (kv/observe.h): of decoded tokens from the weights at hand, of a prompt by a second pass
// over the keys, exp(score - lse), in memory that grows with the rows only.
#include <algorithm>
#include <cassert>
#include <cmath>

#include "attention/attend_call.h"

namespace lamina {
namespace {

std::size_t padded_rows(std::span<const Segment> segments) {
  std::size_t rows = 0;
  for (const Segment& segment : segments) rows += segment.range().padded();
  return rows;
}

}  // namespace

// Of all partitions of a KV head, whose weights are relative to their own maximum. A partition's rows get what all
// queries gave them while they are in the first cache.
void Attention::observe_merged(const Merge& merge) const {
  const Query& query = queries_[merge.query];
  const Observe& what = query.observation.what;
  assert(what.far == 0 && !what.most);
  const std::span<const Segment> segments = query.segments[merge.kv_head];
  const std::size_t all = padded_rows(segments), columns = static_cast<std::size_t>(what.columns(group_));
  const auto rows = query.pos.size() * static_cast<std::size_t>(group_);
  const std::span<const Partition> parts(buffers_.partitions.data() + merge.first_partition,
                                         buffers_.partitions.data() + merge.last_partition);
  const auto max_of = [&](const Partition& p, std::size_t i) { return buffers_.partials[p.partial + i]; };
  std::vector<float> max(rows, kNoScore), sum(rows, 0);
  for (const Partition& p : parts)
    for (std::size_t i = 0; i < rows; ++i) max[i] = std::max(max[i], max_of(p, i));
  const auto factor = [&](const Partition& p, std::size_t i) { return std::exp(max_of(p, i) - max[i]); };
  for (const Partition& p : parts)
    for (std::size_t i = 0; i < rows; ++i)
      if (max[i] != kNoScore) sum[i] += factor(p, i) * buffers_.partials[p.partial + rows + i];
  const Segment* segment = segments.data();
  std::size_t before = 0;
  for (const Partition& p : parts) {
    for (; segment != p.segment; ++segment) before += segment->range().padded();
    const std::size_t n = p.rows.padded(),
                      at = before + (p.rows.first / kTileRows - segment->first_tile()) * std::size_t{kTileRows};
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t token = i / static_cast<std::size_t>(group_), head = i % static_cast<std::size_t>(group_);
      if (query.pos[token] < what.first_query || max[i] == kNoScore) continue;
      const std::size_t column = token * columns + (what.by_query_head ? head : 0);
      kernels_.add_scaled(buffers_.weights.data() + p.weights + i * n, factor(p, i) / sum[i], static_cast<int>(n),
                          query.observation.mass[merge.kv_head] + column * all + at);
    }
  }
}

// Blocks of rows, each a task for all of the prompt's queries: no two tasks add to one sum.
void Attention::plan_observed(int query, int kv_head) {
  const Query& q = queries_[query];
  assert(q.lse != nullptr);
  const auto first = std::ranges::lower_bound(q.pos, q.observation.what.first_query);
  if (first == q.pos.end()) return;
  const int first_token = static_cast<int>(first - q.pos.begin()), tokens = static_cast<int>(q.pos.size());
  gathered(query, kv_head) = {first_token, observed_rows_};
  const int tile_tokens = std::max(1, kPromptQueryRows / group_);
  for (int token = first_token, n = 0; token < tokens; token += n) {
    n = std::min(tile_tokens, tokens - token);
    buffers_.observed_queries.push_back({query, kv_head, token, n, observed_rows_});
    observed_rows_ += static_cast<std::size_t>(n * group_);
  }
  const std::span<const Segment> segments = q.segments[kv_head];
  const std::size_t all = padded_rows(segments);
  std::size_t before = 0;
  for (const Segment& segment : segments) {
    const RowRange rows{visible_rows(segment, q.sees, *first).first, visible_rows(segment, q.sees, q.pos.back()).last};
    for (std::uint32_t row = rows.first; row < rows.last;) {
      const std::uint32_t end = block_end(row, rows);
      buffers_.observed.push_back({query, kv_head, &segment, {row, end}, before, all});
      row = end;
    }
    before += segment.range().padded();
  }
}

// The queries of one head as they are, and where those to come will be.
void Attention::add_queries(const Query& query, int head) const {
  const Observe& what = query.observation.what;
  const auto first = std::ranges::lower_bound(query.pos, what.first_query) - query.pos.begin();
  const auto stride = static_cast<std::ptrdiff_t>(shape_.heads) * shape_.head_dim;
  QueryMoments& to = query.observation.queries[static_cast<std::size_t>(head)];
  to.add(query.q + first * stride + static_cast<std::ptrdiff_t>(head) * shape_.head_dim,
         static_cast<std::size_t>(stride), query.pos.size() - static_cast<std::size_t>(first));
  to.expect(rope_.mean(query.pos.back() + 1, what.future, shape_.scale));
}

void Attention::gather_observed(const ObservedQueries& queries) const {
  const Query& query = queries_[queries.query];
  QueryRows& rows = buffers_.observed_rows;
  float* const to = rows.q.data() + queries.at * static_cast<std::size_t>(dim_);
  gather_queries(query, queries.kv_head, queries.first_token, queries.tokens, 0, to);
  if (buffers_.meets_bytes[queries.query])
    kernels_.bytes_of_queries(to, bytes_of(rows, queries.at, queries.tokens * group_, query));
}

void Attention::run_observed(const ObservedBlock& block, ThreadBuffers& thread) const {
  const int tokens = static_cast<int>(queries_[block.query].pos.size()),
            tile_tokens = std::max(1, kPromptQueryRows / group_);
  grow(thread.visible, static_cast<std::size_t>(tile_tokens));
  grow(thread.far, static_cast<std::size_t>(tile_tokens));
  for (int token = gathered(block.query, block.kv_head).first_token; token < tokens; token += tile_tokens)
    run_observed_tile(block, token, std::min(tile_tokens, tokens - token), thread);
}

void Attention::run_observed_tile(const ObservedBlock& block, int first_token, int tokens,
                                  ThreadBuffers& thread) const {
  const Query& query = queries_[block.query];
  const Segment& segment = *block.segment;
  const Pos far = query.observation.what.far;
  bool any = false;
  for (int t = 0; t < tokens; ++t) {
    const Pos pos = query.pos[first_token + t];
    thread.visible[t] = intersection(block.rows, visible_rows(segment, query.sees, pos));
    thread.far[t] = far > 0 ? intersection(block.rows, visible_rows(segment, {}, pos - far)) : RowRange{};
    any = any || !thread.visible[t].empty();
  }
  if (!any) return;
  const Tiles tiles = tiles_of(memory_, segment, block.rows, dim_, thread.pointers);
  const auto query_rows = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(group_);
  grow(thread.scores, query_rows * static_cast<std::size_t>(tiles.padded_rows()));
  TileQueries queries = queries_for(block.query, block.kv_head, first_token, tokens, segment.shift, thread);
  const int all = static_cast<int>(query_rows);
  if (const std::optional<ByteRows> bytes = bytes_of(block.query, block.kv_head, segment, tiles))
    kernels_.score_bytes(*bytes, bytes_of(queries, all, query, thread), thread.scores.data(),
                         static_cast<std::size_t>(tiles.padded_rows()));
  else
    score_blocks(segment, tiles, queries.q, all, thread);
  grow(thread.lse, query_rows);
  grow(thread.far_columns, query_rows);
  for (int t = 0; t < tokens; ++t)
    for (int j = 0; j < group_; ++j) prepare_observed(block, tiles, first_token, t, j, thread);
  add_weights(block, tiles, tokens, thread);
}

// Of query head j of the group, for the tile's t-th token: what its scores become weights with.
void Attention::prepare_observed(const ObservedBlock& block, const Tiles& tiles, int first_token, int t, int j,
                                 ThreadBuffers& thread) const {
  const Query& query = queries_[block.query];
  const Observe& what = query.observation.what;
  const int token = first_token + t, head = block.kv_head * group_ + j;
  const int row = t * group_ + j;
  float* const scores =
      thread.scores.data() + static_cast<std::size_t>(row) * static_cast<std::size_t>(tiles.padded_rows());
  if (tiles.k_gains) kernels_.apply_gains(tiles.k_gains, tiles.keys.tiles(), scores);
  mask(scores, tiles, thread.visible[t]);
  const auto distance = static_cast<float>(query.pos[token] - what.first_query);
  const float lse = query.lse[static_cast<std::ptrdiff_t>(token) * shape_.heads + head];
  const float counts = what.slope == 0 ? 0 : std::log1p(what.slope * distance);
  thread.lse[row] = lse == kNoScore ? std::numeric_limits<float>::infinity() : lse - counts;  // then no weight at all
  const RowRange far = thread.far[t];
  thread.far_columns[row] = far.empty() ? 0 : static_cast<std::int32_t>(far.last - tiles.base);
}

// The weights of the prepared scores are counted: in the tokens' order, however the prompt is cut.
void Attention::add_weights(const ObservedBlock& block, const Tiles& tiles, int tokens, ThreadBuffers& thread) const {
  const Query& query = queries_[block.query];
  const Observe& what = query.observation.what;
  const auto n = static_cast<std::size_t>(tiles.padded_rows());
  float* const first_sums = query.observation.mass[block.kv_head] + block.before + tiles.base -
                            std::size_t{block.segment->first_tile()} * kTileRows;
  const int lists = what.by_query_head ? group_ : 1;
  for (int j = 0; j < lists; ++j) {
    float* const sums = first_sums + static_cast<std::size_t>(j * what.kinds()) * block.all;
    const bool far = what.far > 0;
    kernels_.weigh({.scores = thread.scores.data() + static_cast<std::size_t>(j) * n,
                    .stride = n,
                    .rows = tokens * group_ - j,
                    .step = lists,
                    .n = static_cast<int>(n),
                    .lse = thread.lse.data() + j,
                    .sums = sums,
                    .most = what.most,
                    .far = far ? thread.far_columns.data() + j : nullptr,
                    .far_sums = far ? sums + block.all : nullptr});
  }
}

}  // namespace lamina
