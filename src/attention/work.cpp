// SPDX-License-Identifier: Apache-2.0
#include "attention/work.h"

#include <algorithm>

#include "attention/attend_call.h"

namespace lamina {
namespace {

Work head_work(const AttendKernels& kernels, const AttentionShape& shape, const Query& query, int kv_head) {
  const bool decodes = takes_decode_path(kernels, shape, query, kv_head);
  const bool bytes = meets_bytes(kernels, shape.head_dim, query);
  const int group = shape.heads / shape.kv_heads;
  const double each = 2.0 * group * shape.head_dim;  // of a token and a row
  Work work;
  for (const Segment& segment : query.segments[static_cast<std::size_t>(kv_head)]) {
    const RowRange rows{visible_rows(segment, query.sees, query.pos.front()).first,
                        visible_rows(segment, query.sees, query.pos.back()).last};
    if (rows.empty()) continue;
    work.bytes += static_cast<double>(segment.bytes(rows));
    double floats = 0, in_bytes = 0;  // pairs of a token and a row that it sees
    for (const Pos pos : query.pos) {
      const RowRange seen = visible_rows(segment, query.sees, pos);
      const double later = bytes && seen.last > kFloatRows ? seen.last - std::max(seen.first, kFloatRows) : 0;
      floats += seen.size() - later;
      in_bytes += later;
    }
    for (const Format format : {segment.k_format, segment.v_format}) {
      (decodes && has_scales(format) ? work.int_ops : work.f32_ops) +=
          (decodes && has_scales(format) ? 2 : 1) * floats * each;  // codes meet two digits
      work.int_ops += in_bytes * each;
    }
  }
  return work;
}

}  // namespace

Work attention_work(const AttendKernels& kernels, const AttentionShape& shape, std::span<const Query> queries) {
  Work work;
  for (const Query& query : queries)
    for (int head = 0; head < shape.kv_heads && query.out != nullptr && !query.pos.empty(); ++head)
      work += head_work(kernels, shape, query, head);
  return work;
}

}  // namespace lamina
