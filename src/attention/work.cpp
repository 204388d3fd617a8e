// SPDX-License-Identifier: Apache-2.0
#include "attention/work.h"

#include "attention/attend_call.h"

namespace lamina {
namespace {

Work head_work(const AttentionShape& shape, const Query& query, int kv_head) {
  const int group = shape.heads / shape.kv_heads;
  const bool decodes = takes_decode_path(query, kv_head, group);
  Work work;
  for (const Segment& segment : query.segments[static_cast<std::size_t>(kv_head)]) {
    const RowRange rows{visible_rows(segment, query.sees, query.pos.front()).first,
                        visible_rows(segment, query.sees, query.pos.back()).last};
    if (rows.empty()) continue;
    work.bytes += static_cast<double>(segment.bytes(rows));
    double pairs = 0;  // of a query row and a row that it sees
    for (const Pos pos : query.pos) pairs += visible_rows(segment, query.sees, pos).size();
    for (const Format format : {segment.k_format, segment.v_format})
      (decodes && has_scales(format) ? work.int_ops : work.f32_ops) += 2 * pairs * group * shape.head_dim;
  }
  return work;
}

}  // namespace

Work attention_work(const AttentionShape& shape, std::span<const Query> queries) {
  Work work;
  for (const Query& query : queries)
    for (int head = 0; head < shape.kv_heads && query.out != nullptr && !query.pos.empty(); ++head)
      work += head_work(shape, query, head);
  return work;
}

}  // namespace lamina
