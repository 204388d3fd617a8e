// SPDX-License-Identifier: Apache-2.0
// Rows of one head between float32 and their tiles (format.h). Rows are addressed as segments address them: row r is
// row r % 16 of tile r / 16 of the run's planes. Only the addressed rows of a tile are touched.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kv/segment.h"

namespace lamina {

enum class RowKind : std::uint8_t { kKey, kValue };  // keys and values have different tile layouts

// Where the keys (or the values) of one run lie and how they are written.
struct RowPlanes {
  BlockMemory memory;
  RowKind kind{};
  Format format{};
  int head_dim = 0;     // at most kMaxHeadDim (kernels/attend.h)
  Plane codes, scales;  // scales: of codes only
};

// Encodes n consecutive rows from row `row` on; rows[i * row_stride + c] is channel c of the i-th. Values beyond the
// range of a 16-bit float (or of an f16 scale) are clamped to it; NaN is the caller's bug. Where scales are by channel,
// whole groups of rows, or what there is of them: their other rows are lost.
void write_rows(const RowPlanes& to, std::uint32_t row, const float* rows, std::size_t row_stride, int n);

// Decodes one row to head_dim floats.
void read_row(const RowPlanes& from, std::uint32_t row, float* out);

// Moves one encoded row, codes and scales, bit for bit; both sides have the same kind, format and head_dim. Not where
// scales are by channel.
void copy_row(const RowPlanes& from, std::uint32_t from_row, const RowPlanes& to, std::uint32_t to_row);

}  // namespace lamina
