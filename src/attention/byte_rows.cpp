// SPDX-License-Identifier: Apache-2.0
// Rows and queries of prompts as bytes (kernels/attend.h: ByteRows). The rows of a step are made once for all tiles of
// its queries; which rows they are depends on the rows alone, so the chunks of a prompt change no bit.
#include <algorithm>

#include "attention/attend_call.h"

namespace lamina {
namespace {

// Wider heads stay float32: Gemma 3's would lose a KL divergence of 1.3e-4.
constexpr int kMaxByteDim = 128;

}  // namespace

bool meets_bytes(const AttendKernels& kernels, int head_dim, const Query& query) {
  const auto is_f32 = [](const Segment& s) { return s.k_format == Format::kF32 || s.v_format == Format::kF32; };
  return kernels.fast_bytes && head_dim <= kMaxByteDim && query.prompt &&
         std::ranges::none_of(query.segments, [&](const auto& head) { return std::ranges::any_of(head, is_f32); });
}

// Rows of `+ rotate` are transformed already; of others the largest power of two that divides a head's channels.
int Attention::rotation_of(const Query& query) const { return query.rotate ? 1 : shape_.head_dim & -shape_.head_dim; }

void Attention::plan_bytes(int query, int kv_head) {
  const Query& q = queries_[query];
  buffers_.first_byte_runs[head_of(query, kv_head)] = buffers_.byte_runs.size();
  for (const Segment& segment : q.segments[kv_head]) {
    const RowRange rows{std::max(kFloatRows, visible_rows(segment, q.sees, q.pos.front()).first),
                        visible_rows(segment, q.sees, q.pos.back()).last};
    buffers_.byte_runs.push_back({bytes_, rows.first / kTileRows});
    for (std::uint32_t row = rows.first; row < rows.last;) {
      const std::uint32_t end = block_end(row, rows);
      buffers_.byte_blocks.push_back({query, kv_head, &segment, {row, end}, bytes_});
      bytes_ += RowRange{row, end}.tiles() * ByteRows::tile_bytes(dim_);
      row = end;
    }
  }
}

ByteRows Attention::byte_rows(std::size_t at, int tiles, const Query& query) const {
  const auto start = reinterpret_cast<std::uintptr_t>(buffers_.bytes.data());
  return {.base = buffers_.bytes.data() + ((start + 63) / 64 * 64 - start) + at,
          .tiles = tiles,
          .dim = dim_,
          .rotate = rotation_of(query)};
}

void Attention::make_bytes(const ByteBlock& block, ThreadBuffers& thread) const {
  const Segment& segment = *block.segment;
  const Tiles tiles = tiles_of(memory_, segment, block.rows, dim_, thread.pointers);
  const ByteRows to = byte_rows(block.at, tiles.keys.tiles(), queries_[block.query]);
  grow(thread.block, kBlockRows * static_cast<std::size_t>(dim_));
  kernels_.unpack_keys[static_cast<int>(segment.k_format)](tiles.keys, thread.block.data());
  kernels_.bytes_of_keys(thread.block.data(), to);
  kernels_.unpack_values[static_cast<int>(segment.v_format)](tiles.values, thread.block.data());
  kernels_.bytes_of_values(thread.block.data(), to);
}

// The rows that `tiles` are of; nothing where they are met as float32.
std::optional<ByteRows> Attention::bytes_of(int query, int kv_head, const Segment& segment, const Tiles& tiles) const {
  const Query& q = queries_[query];
  const std::uint32_t first = tiles.base + static_cast<std::uint32_t>(tiles.keys.first);
  if (first < kFloatRows || !buffers_.meets_bytes[query]) return std::nullopt;
  const std::size_t index = buffers_.first_byte_runs[head_of(query, kv_head)] +
                            static_cast<std::size_t>(&segment - q.segments[kv_head].data());
  const ByteRun& run = buffers_.byte_runs[index];
  return byte_rows(run.at + (first / kTileRows - run.first_tile) * ByteRows::tile_bytes(dim_), tiles.keys.tiles(), q);
}

void Attention::grow_bytes(QueryRows& rows, std::size_t count) const {
  const auto groups = static_cast<std::size_t>(byte_groups(dim_));
  grow(rows.codes, count * static_cast<std::size_t>(dim_));
  grow(rows.scales, count * groups);
  grow(rows.offsets, count * groups);
}

ByteQueries Attention::bytes_of(QueryRows& rows, std::size_t first, int count, const Query& query) const {
  const ByteQueries all{.rows = 0,
                        .dim = dim_,
                        .rotate = rotation_of(query),
                        .codes = rows.codes.data(),
                        .scales = rows.scales.data(),
                        .offsets = rows.offsets.data()};
  return all.part(static_cast<int>(first), count);
}

const ByteQueries& Attention::bytes_of(TileQueries& queries, int rows, const Query& query,
                                       ThreadBuffers& thread) const {
  if (queries.bytes.rows == 0) {
    grow_bytes(thread.queries, static_cast<std::size_t>(rows));
    queries.bytes = bytes_of(thread.queries, 0, rows, query);
    kernels_.bytes_of_queries(queries.q, queries.bytes);
  }
  return queries.bytes;
}

}  // namespace lamina
