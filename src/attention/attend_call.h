// SPDX-License-Identifier: Apache-2.0
// One call of attend(): what its tasks are, and what they share. Its parts: attention.cpp plans, decode.cpp and
// prompt.cpp are the two paths, byte_rows.cpp makes rows ready for prompts, observe.cpp measures what queries gave
// them, work.cpp counts.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "attention/row_range.h"

namespace lamina {

constexpr int kPromptQueryRows = 96;  // prompt: query rows of one task

// Which of the two paths the rows of a KV head take.
bool takes_decode_path(const AttendKernels& kernels, const AttentionShape& shape, const Query& query, int kv_head);
// Whether a prompt's queries meet rows as bytes, from kFloatRows on.
bool meets_bytes(const AttendKernels& kernels, int head_dim, const Query& query);

// Rows [first, last) of one segment, for all query rows of a KV head.
struct Partition {
  int query, kv_head;
  const Segment* segment;
  RowRange rows;
  std::size_t partial;  // where its results start
  std::size_t weights;  // and, if they are observed, its weights
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

// Up to kBlockRows rows that prompts meet as bytes (kernels/attend.h), and where all such rows of a segment are.
struct ByteBlock {
  int query, kv_head;
  const Segment* segment;
  RowRange rows;
  std::size_t at;  // in Buffers::bytes
};
struct ByteRun {
  std::size_t at = 0;
  std::uint32_t first_tile = 0;
};

// Query rows as floats and as bytes.
struct QueryRows {
  std::vector<float> q;            // [query rows][dim]
  std::vector<std::int8_t> codes;  // of ByteQueries, as are the next two
  std::vector<float> scales;
  std::vector<std::int32_t> offsets;
};

// A tile's queries for the rows of one shift, as floats and, once they are asked for, as bytes.
struct TileQueries {
  const float* q = nullptr;
  ByteQueries bytes{};
};

// Threads write to each without pause: in lines of their own, or reading what lies beside costs a cache miss.
struct alignas(128) NextPartition : std::atomic<int> {};

struct alignas(128) ThreadBuffers {
  QueryRows queries;
  std::vector<float> partials;    // [partition]: max [query rows], sum [query rows], out [query rows][dim]
  std::vector<float> scores;      // [query rows][rows]
  std::vector<float> block;       // a block of keys or values as float32
  std::vector<RowRange> visible;  // [tokens]
  std::vector<RowRange> far;      // [tokens] observed: rows that count as far besides
  std::vector<const std::byte*> pointers, next_pointers;  // [plane][tiles], of the rows at hand and of the next
  std::vector<float> lse;                                 // [query rows] observed
  std::vector<std::int32_t> far_columns;  // [query rows] observed: how many of its scores count as far besides
};

// Tokens [first_token, first_token + tokens) of an observed prompt as the rows of one KV head meet them, but for those
// that carry a shift: gathered once for all blocks of rows.
struct ObservedQueries {
  int query, kv_head, first_token, tokens;
  std::size_t at;  // row of Buffers::observed_rows
};

// Where those of a query and KV head are, from a token on.
struct Gathered {
  int first_token = std::numeric_limits<int>::max();
  std::size_t at = 0;  // row of Buffers::observed_rows
};

// Rows of one segment whose weights a prompt's queries are asked for: a second pass over the keys.
struct ObservedBlock {
  int query, kv_head;
  const Segment* segment;
  RowRange rows;
  std::size_t before, all;  // rows of the head's segments before this one, and of all: each padded to whole tiles
};

template <class T>
void grow(std::vector<T>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer.resize(size);
}

struct AttentionScratch::Buffers {
  explicit Buffers(const AttendKernels& table) : kernels(&table) {}

  const AttendKernels* kernels;
  std::vector<QueryTile> query_tiles;
  std::vector<Partition> partitions;
  std::vector<Merge> merges;
  std::vector<float> partials;  // by partition: max [query rows], sum [query rows], out [query rows][dim]
  std::vector<float> weights;   // by observed partition: [query rows][rows], exp(score - the partition's max)
  std::vector<ObservedQueries> observed_queries;
  std::vector<Gathered> gathered;  // [query][kv_head]
  QueryRows observed_rows;
  std::vector<ObservedBlock> observed;
  std::vector<bool> meets_bytes;  // [query]
  std::vector<ByteBlock> byte_blocks;
  std::vector<ByteRun> byte_runs;            // of the segments of prompts
  std::vector<std::size_t> first_byte_runs;  // [query][kv_head]
  std::vector<std::byte> bytes;              // ByteRows, from the first multiple of 64 bytes on
  std::vector<ThreadBuffers> threads;
};

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
  // Partitions as long as `next`, the first that no thread has taken, tells of any.
  void run_partitions(NextPartition& next, ThreadBuffers& thread) const;
  void run_merge(const Merge& merge) const;
  void gather_observed(const ObservedQueries& queries) const;
  void make_bytes(const ByteBlock& block, ThreadBuffers& thread) const;
  void run_observed(const ObservedBlock& block, ThreadBuffers& thread) const;
  void add_queries(const Query& query, int head) const;

 private:
  void plan_partitions(int query, int kv_head);
  void plan_observed(int query, int kv_head);
  void plan_bytes(int query, int kv_head);
  int rotation_of(const Query& query) const;
  ByteRows byte_rows(std::size_t at, int tiles, const Query& query) const;
  std::optional<ByteRows> bytes_of(int query, int kv_head, const Segment& segment, const Tiles& tiles) const;
  void grow_bytes(QueryRows& rows, std::size_t count) const;
  ByteQueries bytes_of(QueryRows& rows, std::size_t first, int count, const Query& query) const;
  const ByteQueries& bytes_of(TileQueries& queries, int rows, const Query& query, ThreadBuffers& thread) const;
  void prepare_observed(const ObservedBlock& block, const Tiles& tiles, int first_token, int t, int j,
                        ThreadBuffers& thread) const;
  void add_weights(const ObservedBlock& block, const Tiles& tiles, int tokens, ThreadBuffers& thread) const;
  void run_observed_tile(const ObservedBlock& block, int first_token, int tokens, ThreadBuffers& thread) const;
  // Its queries are in thread.queries.
  void run_partition(const Partition& partition, const Tiles& tiles, ThreadBuffers& thread) const;
  void observe_merged(const Merge& merge) const;
  void gather_queries(const Query& query, int kv_head, int first_token, int tokens, Pos shift, float* q) const;
  void gather_queries(const Partition& partition, ThreadBuffers& thread) const;
  void run_prompt_partition(const QueryTile& tile, const Segment& segment, RowRange rows, TileQueries& queries,
                            float* partial, ThreadBuffers& thread) const;
  TileQueries queries_for(int query, int kv_head, int first_token, int tokens, Pos shift, ThreadBuffers& thread) const;
  std::size_t head_of(int query, int kv_head) const {
    return static_cast<std::size_t>(query) * static_cast<std::size_t>(shape_.kv_heads) +
           static_cast<std::size_t>(kv_head);
  }
  Gathered& gathered(int query, int kv_head) const { return buffers_.gathered[head_of(query, kv_head)]; }
  void score_blocks(const Segment& segment, const Tiles& tiles, const float* q, int query_rows,
                    ThreadBuffers& thread) const;
  void mix_bytes(const ByteRows& rows, std::uint32_t first_tile, const float* weights, std::size_t stride,
                 int query_rows, float* out) const;
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
  std::size_t partial_floats_ = 0, weight_floats_ = 0, observed_rows_ = 0, bytes_ = 0;
};

}  // namespace lamina
