// SPDX-License-Identifier: Apache-2.0
#include "attention/attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/row_range.h"

namespace lamina {
namespace {

constexpr int kDecodeQueryRows = 24;       // tokens x heads of a group up to which the decode path is faster
constexpr int kPromptQueryRows = 96;       // prompt: query rows of one task
constexpr std::uint32_t kBlockRows = 128;  // prompt: rows that are converted to float32 at a time

// Rows [first, last) of one segment, for all query rows of a KV head.
struct Partition {
  int query, kv_head;
  const Segment* segment;
  Range rows;
  std::size_t partial;  // where its results start
};

// A range of tokens on the prompt path.
struct QueryTile {
  int query, kv_head, first_token, tokens;
};

// The partitions of one KV head on the decode path.
struct Merge {
  int query, kv_head;
  std::size_t first_partition, last_partition;
};

struct ThreadBuffers {
  std::vector<float> q;                    // [query rows][dim]
  std::vector<float> partials;             // [partition]: max [query rows], sum [query rows], out [query rows][dim]
  std::vector<float> scores;               // [query rows][rows]
  std::vector<float> block;                // a block of keys or values as float32
  std::vector<Range> visible;              // [tokens]
  std::vector<const std::byte*> pointers;  // [plane][tiles]
};

template <class T>
void grow(std::vector<T>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer.resize(size);
}

}  // namespace

struct AttentionScratch::Buffers {
  explicit Buffers(const AttendKernels& table) : kernels(&table) {}

  const AttendKernels* kernels;
  std::vector<QueryTile> query_tiles;
  std::vector<Partition> partitions;
  std::vector<Merge> merges;
  std::vector<float> partials;  // by partition: max [query rows], sum [query rows], out [query rows][dim]
  std::vector<ThreadBuffers> threads;
};

AttentionScratch::AttentionScratch(const AttendKernels& kernels) : buffers_(std::make_unique<Buffers>(kernels)) {}
AttentionScratch::~AttentionScratch() = default;
AttentionScratch::AttentionScratch(AttentionScratch&&) noexcept = default;
AttentionScratch& AttentionScratch::operator=(AttentionScratch&&) noexcept = default;

namespace {

// What every task of one call reads.
class Attention {
 public:
  Attention(const BlockMemory& memory, const AttentionShape& shape, const Rope& rope, std::span<const Query> queries,
            AttentionScratch::Buffers& buffers)
      : memory_(memory),
        shape_(shape),
        rope_(rope),
        queries_(queries),
        buffers_(buffers),
        kernels_(*buffers.kernels),
        group_(shape.heads / shape.kv_heads),
        dim_(padded_dim(shape.head_dim)) {}

  void plan();
  void run_query_tile(const QueryTile& tile, ThreadBuffers& thread) const;
  void run_partition(const Partition& partition, ThreadBuffers& thread) const;
  void run_merge(const Merge& merge) const;

 private:
  void plan_partitions(int query, int kv_head);
  void gather_queries(const Query& query, int kv_head, int first_token, int tokens, Pos shift, float* q) const;
  void run_prompt_partition(const Segment& segment, Range rows, int tokens, float* partial,
                            ThreadBuffers& thread) const;
  void score_blocks(const Segment& segment, const Tiles& tiles, const float* q, int query_rows,
                    ThreadBuffers& thread) const;
  void mix_blocks(const Segment& segment, const Tiles& tiles, int query_rows, float* out, ThreadBuffers& thread) const;
  void merge_row(const float* partials, std::size_t count, int rows, int i, const Query& query, int token,
                 int head) const;

  const BlockMemory& memory_;
  const AttentionShape& shape_;
  const Rope& rope_;
  std::span<const Query> queries_;
  AttentionScratch::Buffers& buffers_;
  const AttendKernels& kernels_;
  int group_;  // query heads of one KV head
  int dim_;    // head_dim with padding
  std::size_t partial_floats_ = 0;
};

void Attention::plan() {
  buffers_.query_tiles.clear();
  buffers_.partitions.clear();
  buffers_.merges.clear();
  const int tile_tokens = std::max(1, kPromptQueryRows / group_);
  for (int i = 0; i < static_cast<int>(queries_.size()); ++i) {
    const int tokens = static_cast<int>(queries_[i].pos.size());
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const bool codes = std::any_of(queries_[i].segments[h].begin(), queries_[i].segments[h].end(),
                                     [](const Segment& s) { return has_scales(s.k_format) || has_scales(s.v_format); });
      if (tokens * group_ <= kDecodeQueryRows && !(queries_[i].prompt && codes)) {
        plan_partitions(i, h);
        continue;
      }
      // the last tiles see the most rows: they come first, so that the threads end together
      for (int first = (tokens - 1) / tile_tokens * tile_tokens; first >= 0; first -= tile_tokens)
        buffers_.query_tiles.push_back({i, h, first, std::min(tile_tokens, tokens - first)});
    }
  }
  grow(buffers_.partials, partial_floats_);
}

void Attention::plan_partitions(int query, int kv_head) {
  const std::span<const Pos> pos = queries_[query].pos;
  const Visibility& sees = queries_[query].sees;
  if (pos.empty()) return;
  const std::size_t first_partition = buffers_.partitions.size();
  const std::size_t floats = pos.size() * static_cast<std::size_t>(group_) * (2 + static_cast<std::size_t>(dim_));
  for (const Segment& segment : queries_[query].segments[kv_head]) {
    const Range rows{visible_rows(segment, sees, pos.front()).first, visible_rows(segment, sees, pos.back()).last};
    for (std::uint32_t first = rows.first; first < rows.last;) {
      const std::uint32_t end = partition_end(first, rows);
      buffers_.partitions.push_back({query, kv_head, &segment, {first, end}, partial_floats_});
      partial_floats_ += floats;
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
    }
}

void Attention::run_partition(const Partition& partition, ThreadBuffers& thread) const {
  const Query& query = queries_[partition.query];
  const Segment& segment = *partition.segment;
  const int tokens = static_cast<int>(query.pos.size()), rows = tokens * group_;
  const Tiles tiles = tiles_of(memory_, segment, partition.rows, dim_, thread.pointers);
  const auto stride = static_cast<std::size_t>(tiles.padded_rows());
  grow(thread.q, static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim_));
  grow(thread.scores, static_cast<std::size_t>(rows) * stride);
  gather_queries(query, partition.kv_head, 0, tokens, segment.shift, thread.q.data());

  float* scores = thread.scores.data();
  kernels_.score[static_cast<int>(segment.k_format)](tiles.keys, thread.q.data(), rows, scores, stride);
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
}

// Query row i of `rows`: the fold of its `count` partial results, in order.
void Attention::merge_row(const float* partials, std::size_t count, int rows, int i, const Query& query, int token,
                          int head) const {
  const std::size_t floats = static_cast<std::size_t>(rows) * (2 + static_cast<std::size_t>(dim_));
  std::array<float, kMaxHeadDim> out;
  float max = kNoScore, sum = 0;
  for (std::size_t p = 0; p < count; ++p) max = std::max(max, partials[p * floats + static_cast<std::size_t>(i)]);
  std::fill_n(out.begin(), dim_, 0.0F);
  for (std::size_t p = 0; p < count && max != kNoScore; ++p) {
    const float* partial = partials + p * floats;
    const float weight = std::exp(partial[i] - max);
    const float* part = partial + 2 * rows + static_cast<std::ptrdiff_t>(i) * dim_;
    sum += weight * partial[rows + i];
    for (int c = 0; c < dim_; ++c) out[c] += weight * part[c];
  }
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(token) * shape_.heads + head;
  const float factor = sum > 0 ? 1 / sum : 0;
  for (int c = 0; c < shape_.head_dim; ++c) query.out[at * shape_.head_dim + c] = out[c] * factor;
  if (query.lse) query.lse[at] = sum > 0 ? max + std::log(sum) : kNoScore;
}

void Attention::run_query_tile(const QueryTile& tile, ThreadBuffers& thread) const {
  const Query& query = queries_[tile.query];
  const int rows = tile.tokens * group_;
  const std::size_t floats = static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim_);
  grow(thread.q, floats);
  grow(thread.visible, static_cast<std::size_t>(tile.tokens));
  const Segment* rotated = nullptr;  // whose shift the queries carry
  std::size_t partitions = 0;
  for (const Segment& segment : query.segments[tile.kv_head]) {
    for (int t = 0; t < tile.tokens; ++t)
      thread.visible[t] = visible_rows(segment, query.sees, query.pos[tile.first_token + t]);
    const Range rows_of_all{thread.visible[0].first, thread.visible[tile.tokens - 1].last};
    if (rows_of_all.empty()) continue;
    if (!rotated || rotated->shift != segment.shift)
      gather_queries(query, tile.kv_head, tile.first_token, tile.tokens, segment.shift, thread.q.data());
    rotated = &segment;
    for (std::uint32_t first = rows_of_all.first; first < rows_of_all.last; ++partitions) {
      const std::uint32_t end = partition_end(first, rows_of_all);
      thread.partials.resize(std::max(thread.partials.size(), (partitions + 1) * (floats + 2 * rows)));
      run_prompt_partition(segment, {first, end}, tile.tokens,
                           thread.partials.data() + partitions * (floats + 2 * rows), thread);
      first = end;
    }
  }
  for (int i = 0; i < rows; ++i)
    merge_row(thread.partials.data(), partitions, rows, i, query, tile.first_token + i / group_,
              tile.kv_head * group_ + i % group_);
}

// The tile's tokens and one partition of rows: the arithmetic of run_partition() as products of float32 matrices.
void Attention::run_prompt_partition(const Segment& segment, Range rows, int tokens, float* partial,
                                     ThreadBuffers& thread) const {
  const int all = tokens * group_;
  std::fill(partial, partial + all, kNoScore);
  std::fill(partial + all, partial + static_cast<std::ptrdiff_t>(all) * (2 + dim_), 0.0F);
  // tokens before the first have not reached these rows, those from the last on no longer see them
  int first_token = 0, last_token = tokens;
  while (first_token < last_token && thread.visible[first_token].last <= rows.first) ++first_token;
  while (last_token > first_token && thread.visible[last_token - 1].first >= rows.last) --last_token;
  const int skipped = first_token * group_, query_rows = (last_token - first_token) * group_;
  if (query_rows == 0) return;
  const Tiles tiles = tiles_of(memory_, segment, rows, dim_, thread.pointers);
  const auto stride = static_cast<std::size_t>(tiles.padded_rows()), dim = static_cast<std::size_t>(dim_);
  grow(thread.scores, static_cast<std::size_t>(query_rows) * stride);
  float* scores = thread.scores.data();
  float* out = partial + 2 * all + static_cast<std::ptrdiff_t>(skipped) * dim_;

  score_blocks(segment, tiles, thread.q.data() + static_cast<std::size_t>(skipped) * dim, query_rows, thread);
  for (int i = 0; i < query_rows; ++i) {
    if (tiles.k_gains) kernels_.apply_gains(tiles.k_gains, tiles.keys.tiles(), scores + i * stride);
    mask(scores + i * stride, tiles, intersection(rows, thread.visible[first_token + i / group_]));
  }
  kernels_.fold(
      {scores, stride, query_rows, tiles.padded_rows(), partial + skipped, partial + all + skipped, out, dim_});
  if (tiles.v_gains)
    for (int i = 0; i < query_rows; ++i) {
      kernels_.apply_gains(tiles.v_gains, tiles.keys.tiles(), scores + i * stride);
      // gains of rows outside the partition's are unspecified
      std::fill(scores + i * stride, scores + i * stride + tiles.values.first, 0.0F);
      std::fill(scores + i * stride + tiles.values.last, scores + (i + 1) * stride, 0.0F);
    }
  mix_blocks(segment, tiles, query_rows, out, thread);
}

void Attention::score_blocks(const Segment& segment, const Tiles& tiles, const float* q, int query_rows,
                             ThreadBuffers& thread) const {
  constexpr int kBlockTiles = kBlockRows / kTileRows;
  const auto dim = static_cast<std::size_t>(dim_), stride = static_cast<std::size_t>(tiles.padded_rows());
  grow(thread.block, kBlockRows * dim);
  for (int tile = 0; tile < tiles.keys.tiles(); tile += kBlockTiles) {
    const int count = std::min(kBlockTiles, tiles.keys.tiles() - tile);
    kernels_.unpack_keys[static_cast<int>(segment.k_format)](part_of(tiles.keys, tile, count), thread.block.data());
    kernels_.product({.a = q,
                      .b = thread.block.data(),
                      .c = thread.scores.data() + tile * kTileRows,
                      .rows = query_rows,
                      .panels = count,
                      .depth = dim_,
                      .a_stride = dim,
                      .panel_stride = dim * kTileRows,
                      .depth_stride = kTileRows,
                      .c_stride = stride});
  }
}

void Attention::mix_blocks(const Segment& segment, const Tiles& tiles, int query_rows, float* out,
                           ThreadBuffers& thread) const {
  constexpr int kBlockTiles = kBlockRows / kTileRows;
  const auto dim = static_cast<std::size_t>(dim_), stride = static_cast<std::size_t>(tiles.padded_rows());
  for (int tile = 0; tile < tiles.values.tiles(); tile += kBlockTiles) {
    const int count = std::min(kBlockTiles, tiles.values.tiles() - tile);
    kernels_.unpack_values[static_cast<int>(segment.v_format)](part_of(tiles.values, tile, count), thread.block.data());
    kernels_.product({.a = thread.scores.data() + tile * kTileRows,
                      .b = thread.block.data(),
                      .c = out,
                      .rows = query_rows,
                      .panels = dim_ / kTileRows,
                      .depth = count * kTileRows,
                      .a_stride = stride,
                      .panel_stride = kTileRows,
                      .depth_stride = dim,
                      .c_stride = dim,
                      .accumulate = true});
  }
}

}  // namespace

void attend(ThreadPool& pool, const BlockMemory& memory, const AttentionShape& shape, const Rope& rope,
            std::span<const Query> queries, AttentionScratch& scratch) {
  assert(shape.head_dim <= kMaxHeadDim && shape.heads % shape.kv_heads == 0);
  AttentionScratch::Buffers& buffers = scratch.buffers();
  grow(buffers.threads, static_cast<std::size_t>(pool.threads()));
  Attention attention(memory, shape, rope, queries, buffers);
  attention.plan();
  const int tiles = static_cast<int>(buffers.query_tiles.size());
  const int partitions = static_cast<int>(buffers.partitions.size());
  pool.parallel_for(tiles + partitions, [&](int task, int thread) {
    if (task < tiles)
      attention.run_query_tile(buffers.query_tiles[task], buffers.threads[thread]);
    else
      attention.run_partition(buffers.partitions[task - tiles], buffers.threads[thread]);
  });
  pool.parallel_for(static_cast<int>(buffers.merges.size()),
                    [&](int task, int) { attention.run_merge(buffers.merges[task]); });
}

}  // namespace lamina
