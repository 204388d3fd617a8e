// SPDX-License-Identifier: Apache-2.0
// The prompt path: tiles of queries by blocks of rows, as products of bytes or of float32 matrices.
#include <algorithm>

#include "attention/attend_call.h"

namespace lamina {

void Attention::run_query_tile(const QueryTile& tile, ThreadBuffers& thread) const {
  const Query& query = queries_[tile.query];
  const int rows = tile.tokens * group_;
  const std::size_t floats = static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim_);
  grow(thread.visible, static_cast<std::size_t>(tile.tokens));
  const Segment* rotated = nullptr;  // whose shift the queries carry
  TileQueries queries;
  std::size_t partitions = 0;
  for (const Segment& segment : query.segments[tile.kv_head]) {
    for (int t = 0; t < tile.tokens; ++t)
      thread.visible[t] = visible_rows(segment, query.sees, query.pos[tile.first_token + t]);
    const RowRange rows_of_all{thread.visible[0].first, thread.visible[tile.tokens - 1].last};
    if (rows_of_all.empty()) continue;
    if (!rotated || rotated->shift != segment.shift)
      queries = queries_for(tile.query, tile.kv_head, tile.first_token, tile.tokens, segment.shift, thread);
    rotated = &segment;
    for (std::uint32_t first = rows_of_all.first; first < rows_of_all.last; ++partitions) {
      const std::uint32_t end = partition_end(first, rows_of_all);
      thread.partials.resize(std::max(thread.partials.size(), (partitions + 1) * (floats + 2 * rows)));
      run_prompt_partition(tile, segment, {first, end}, queries,
                           thread.partials.data() + partitions * (floats + 2 * rows), thread);
      first = end;
    }
  }
  for (int i = 0; i < rows; ++i)
    merge_row(thread.partials.data(), partitions, rows, i, query, tile.first_token + i / group_,
              tile.kv_head * group_ + i % group_);
}

// The tile's tokens and one partition of rows: where rows are float32, the arithmetic of run_partition() as products.
void Attention::run_prompt_partition(const QueryTile& tile, const Segment& segment, RowRange rows, TileQueries& queries,
                                     float* partial, ThreadBuffers& thread) const {
  const Query& query = queries_[tile.query];
  const int tokens = tile.tokens, all = tokens * group_;
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

  const std::optional<ByteRows> bytes = bytes_of(tile.query, tile.kv_head, segment, tiles);
  if (bytes)
    kernels_.score_bytes(*bytes, bytes_of(queries, all, query, thread).part(skipped, query_rows), scores, stride);
  else
    score_blocks(segment, tiles, queries.q + static_cast<std::size_t>(skipped) * dim, query_rows, thread);
  for (int i = 0; i < query_rows; ++i) {
    if (tiles.k_gains) kernels_.apply_gains(tiles.k_gains, tiles.keys.tiles(), scores + i * stride);
    mask(scores + i * stride, tiles, intersection(rows, thread.visible[first_token + i / group_]));
  }
  kernels_.fold({scores, stride, query_rows, tiles.padded_rows(), partial + skipped, partial + all + skipped, out, dim_,
                 bytes.has_value()});
  if (tiles.v_gains)
    for (int i = 0; i < query_rows; ++i) {
      kernels_.apply_gains(tiles.v_gains, tiles.keys.tiles(), scores + i * stride);
      // gains of rows outside the partition's are unspecified
      std::fill(scores + i * stride, scores + i * stride + tiles.values.first, 0.0F);
      std::fill(scores + i * stride + tiles.values.last, scores + (i + 1) * stride, 0.0F);
    }
  if (bytes)
    mix_bytes(*bytes, tiles.base / kTileRows, scores, stride, query_rows, out);
  else
    mix_blocks(segment, tiles, query_rows, out, thread);
}

// Blocks end where they end in every chunk of the prompt: weights share a step by the block.
void Attention::mix_bytes(const ByteRows& rows, std::uint32_t first_tile, const float* weights, std::size_t stride,
                          int query_rows, float* out) const {
  for (int tile = 0; tile < rows.tiles;) {
    const int in_block = static_cast<int>((first_tile + static_cast<std::uint32_t>(tile)) % kByteBlockTiles);
    const int count = std::min(rows.tiles - tile, kByteBlockTiles - in_block);
    kernels_.mix_bytes(rows.part(tile, count), weights + tile * kTileRows, stride, query_rows, out);
    tile += count;
  }
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

}  // namespace lamina
