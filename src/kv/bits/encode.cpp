// SPDX-License-Identifier: Apache-2.0
// A row is converted in channel order by a kernel and then spread over its tile.
#include "kv/bits/encode.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/attend.h"

namespace lamina {
namespace {

const AttendKernels& row_kernels() {
  static const AttendKernels& kernels = attend_kernels(chosen_isa());
  return kernels;
}

// One row within its tile.
struct TileRow {
  std::byte* codes;
  int row;  // 0..15
};

TileRow tile_row(const RowPlanes& planes, std::uint32_t row) {
  return {planes.codes.tile(planes.memory, row / kTileRows), static_cast<int>(row % kTileRows)};
}

// The row's scale of group g is [g * kTileRows].
std::uint16_t* scales_of(const RowPlanes& planes, std::uint32_t row) {
  return reinterpret_cast<std::uint16_t*>(planes.scales.tile(planes.memory, row / kTileRows)) + row % kTileRows;
}

// Elements of a float format: T is the element.
template <class T>
T* element(const RowPlanes& planes, const TileRow& at, int channel) {
  auto* codes = reinterpret_cast<T*>(at.codes);
  return planes.kind == RowKind::kKey ? codes + channel * kTileRows + at.row
                                      : codes + at.row * padded_dim(planes.head_dim) + channel;
}

template <class T>
void spread(const RowPlanes& to, const TileRow& at, const T* row) {
  const int dim = padded_dim(to.head_dim);
  if (to.kind == RowKind::kValue) {
    std::memcpy(element<T>(to, at, 0), row, static_cast<std::size_t>(dim) * sizeof(T));
    return;
  }
  T* out = element<T>(to, at, 0);
  for (int c = 0; c < dim; ++c) out[c * kTileRows] = row[c];
}

template <class T>
void gather(const RowPlanes& from, const TileRow& at, T* row) {
  const int dim = padded_dim(from.head_dim);
  for (int c = 0; c < dim; ++c) row[c] = *element<T>(from, at, c);
}

// Where the code of a channel of an integer format lies: a byte, or half of one.
struct CodePlace {
  std::byte* byte;
  bool high;
};

CodePlace code_place(const RowPlanes& planes, const TileRow& at, int c) {
  const int dim = padded_dim(planes.head_dim), r = at.row;
  const bool key = planes.kind == RowKind::kKey;
  if (planes.format == Format::kInt8)
    return {at.codes + (key ? (c / 4 * kTileRows + r) * 4 + c % 4 : (r / 4 * dim + c) * 4 + r % 4), false};
  return key ? CodePlace{at.codes + (c / 8 * kTileRows + r) * 4 + c % 4, c / 4 % 2 == 1}
             : CodePlace{at.codes + (r / 8 * dim + c) * 4 + r % 4, r / 4 % 2 == 1};
}

// What stored codes are raised by.
int code_offset(const RowPlanes& planes) {
  if (planes.format == Format::kInt4) return 8;
  return planes.kind == RowKind::kKey ? 128 : 0;
}

void spread_int8(const RowPlanes& to, const TileRow& at, const std::int8_t* codes) {
  const int dim = padded_dim(to.head_dim);
  if (to.kind == RowKind::kKey) {
    for (int c = 0; c < dim; c += 4) {
      std::uint32_t four = 0;
      std::memcpy(&four, codes + c, 4);
      four ^= 0x80808080U;  // + 128 in each byte
      std::memcpy(at.codes + static_cast<std::ptrdiff_t>(c * kTileRows + at.row * 4), &four, 4);
    }
    return;
  }
  std::byte* out = code_place(to, at, 0).byte;
  for (int c = 0; c < dim; ++c) out[4 * c] = static_cast<std::byte>(codes[c]);
}

void spread_int4(const RowPlanes& to, const TileRow& at, const std::int8_t* codes) {
  const int dim = padded_dim(to.head_dim);
  if (to.kind == RowKind::kKey) {
    for (int c = 0; c < dim; c += 8) {
      std::byte* out = at.codes + static_cast<std::ptrdiff_t>(c / 8 * kTileRows + at.row) * 4;
      for (int i = 0; i < 4; ++i) out[i] = static_cast<std::byte>((codes[c + i] + 8) | (codes[c + 4 + i] + 8) << 4);
    }
    return;
  }
  const CodePlace place = code_place(to, at, 0);
  const int shift = place.high ? 4 : 0;
  const auto kept = static_cast<std::byte>(place.high ? 0x0f : 0xf0);
  for (int c = 0; c < dim; ++c)
    place.byte[4 * c] = (place.byte[4 * c] & kept) | static_cast<std::byte>((codes[c] + 8) << shift);
}

// Codes in channel order, as they are stored but without offset.
void gather_codes(const RowPlanes& from, const TileRow& at, std::int8_t* codes) {
  const int dim = padded_dim(from.head_dim), offset = code_offset(from);
  for (int c = 0; c < dim; ++c) {
    const CodePlace place = code_place(from, at, c);
    const int byte = std::to_integer<int>(*place.byte);
    const int stored = from.format == Format::kInt4 ? (place.high ? byte >> 4 : byte & 15) : byte;
    codes[c] = static_cast<std::int8_t>(stored - offset);
  }
}

void spread_codes(const RowPlanes& to, const TileRow& at, const std::int8_t* codes) {
  to.format == Format::kInt8 ? spread_int8(to, at, codes) : spread_int4(to, at, codes);
}

// x: padded_dim channels.
void write_row(const RowPlanes& to, std::uint32_t row, const float* x) {
  const TileRow at = tile_row(to, row);
  const AttendKernels& kernels = row_kernels();
  const int dim = padded_dim(to.head_dim);
  if (to.format == Format::kF32) return spread(to, at, x);
  if (has_scales(to.format)) {
    std::array<std::int8_t, kMaxHeadDim> codes;
    std::array<std::uint16_t, kMaxHeadDim / kScaleGroup> scales;
    kernels.quantise(x, dim, to.format == Format::kInt8 ? 127 : 7, codes.data(), scales.data());
    std::uint16_t* out = scales_of(to, row);
    for (int g = 0; g < scale_groups(to.head_dim); ++g) out[g * kTileRows] = scales[g];
    return spread_codes(to, at, codes.data());
  }
  std::array<std::uint16_t, kMaxHeadDim> halves;
  (to.format == Format::kF16 ? kernels.to_f16 : kernels.to_bf16)(x, dim, halves.data());
  spread(to, at, halves.data());
}

}  // namespace

void write_rows(const RowPlanes& to, std::uint32_t row, const float* rows, std::size_t row_stride, int n) {
  assert(to.head_dim <= kMaxHeadDim);
  assert(n <= 0 || std::none_of(rows, rows + to.head_dim, [](float x) { return std::isnan(x); }));
  const bool padded = to.head_dim % 16 != 0;
  std::array<float, kMaxHeadDim> x;
  if (padded) x.fill(0);
  for (int i = 0; i < n; ++i, rows += row_stride) {
    if (padded) std::copy(rows, rows + to.head_dim, x.begin());
    write_row(to, row + static_cast<std::uint32_t>(i), padded ? x.data() : rows);
  }
}

void read_row(const RowPlanes& from, std::uint32_t row, float* out) {
  const TileRow at = tile_row(from, row);
  std::array<float, kMaxHeadDim> x;
  if (from.format == Format::kF32) {
    gather(from, at, x.data());
  } else if (has_scales(from.format)) {
    std::array<std::int8_t, kMaxHeadDim> codes;
    gather_codes(from, at, codes.data());
    const std::uint16_t* scales = scales_of(from, row);
    for (int c = 0; c < from.head_dim; ++c)
      x[c] = f32_from_f16(scales[c / kScaleGroup * kTileRows]) * static_cast<float>(codes[c]);
  } else {
    std::array<std::uint16_t, kMaxHeadDim> halves;
    gather(from, at, halves.data());
    if (from.format == Format::kF16)
      row_kernels().from_f16(halves.data(), padded_dim(from.head_dim), x.data());
    else
      for (int c = 0; c < from.head_dim; ++c) x[c] = f32_from_bf16(halves[c]);
  }
  std::copy(x.begin(), x.begin() + from.head_dim, out);
}

void copy_row(const RowPlanes& from, std::uint32_t from_row, const RowPlanes& to, std::uint32_t to_row) {
  assert(from.kind == to.kind && from.format == to.format && from.head_dim == to.head_dim);
  const TileRow a = tile_row(from, from_row), b = tile_row(to, to_row);
  if (from.format == Format::kF32) {
    std::array<float, kMaxHeadDim> row;
    gather(from, a, row.data());
    return spread(to, b, row.data());
  }
  if (!has_scales(from.format)) {
    std::array<std::uint16_t, kMaxHeadDim> row;
    gather(from, a, row.data());
    return spread(to, b, row.data());
  }
  std::array<std::int8_t, kMaxHeadDim> codes;
  gather_codes(from, a, codes.data());
  spread_codes(to, b, codes.data());
  const std::uint16_t* scales = scales_of(from, from_row);
  std::uint16_t* out = scales_of(to, to_row);
  for (int g = 0; g < scale_groups(from.head_dim); ++g) out[g * kTileRows] = scales[g * kTileRows];
}

}  // namespace lamina
