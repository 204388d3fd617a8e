// SPDX-License-Identifier: Apache-2.0
// A row is converted in channel order by a kernel and then spread over its tile.
#include "kv/bits/encode.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <vector>

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

// Where the code of a channel of an integer format lies: so many bits of a byte, from bit `shift` on.
struct CodePlace {
  std::byte* byte;
  int shift;
};

CodePlace code_place(const RowPlanes& planes, const TileRow& at, int c) {
  const int dim = padded_dim(planes.head_dim), r = at.row, width = bits(planes.format), parts = 8 / width;
  if (planes.kind == RowKind::kKey)
    return {at.codes + (c / (4 * parts) * kTileRows + r) * 4 + c % 4, c / 4 % parts * width};
  return {at.codes + (r / (4 * parts) * dim + c) * 4 + r % 4, r / 4 % parts * width};
}

// What stored codes are raised by.
int code_offset(const RowPlanes& planes) {
  if (has_minima(planes.format)) return 0;
  if (planes.format == Format::kInt4) return 8;
  return planes.kind == RowKind::kKey ? 128 : 0;
}

template <int kWidth>
void spread_bits(const RowPlanes& to, const TileRow& at, const std::int8_t* codes) {
  constexpr int kCodes = 8 / kWidth;  // of a byte
  const int dim = padded_dim(to.head_dim), offset = code_offset(to);
  if (to.kind == RowKind::kKey) {
    for (int c = 0; c < dim; c += 4 * kCodes) {
      std::byte* const out = at.codes + static_cast<std::ptrdiff_t>(c / (4 * kCodes) * kTileRows + at.row) * 4;
      for (int j = 0; j < 4; ++j) {
        unsigned byte = 0;
        for (int i = 0; i < kCodes; ++i)
          byte |= static_cast<unsigned>(static_cast<std::uint8_t>(codes[c + 4 * i + j] + offset)) << i * kWidth;
        out[j] = static_cast<std::byte>(byte);
      }
    }
    return;
  }
  const auto [byte, shift] = code_place(to, at, 0);
  const auto kept = static_cast<std::byte>(~(((1U << kWidth) - 1) << shift));
  for (int c = 0; c < dim; ++c)
    byte[4 * c] = (byte[4 * c] & kept) | static_cast<std::byte>(static_cast<std::uint8_t>(codes[c] + offset) << shift);
}

void spread_codes(const RowPlanes& to, const TileRow& at, const std::int8_t* codes) {
  if (bits(to.format) == 8) return spread_bits<8>(to, at, codes);
  if (bits(to.format) == 4) return spread_bits<4>(to, at, codes);
  spread_bits<2>(to, at, codes);
}

// Codes in channel order, as they are stored but without offset.
void gather_codes(const RowPlanes& from, const TileRow& at, std::int8_t* codes) {
  const int dim = padded_dim(from.head_dim), offset = code_offset(from);
  const unsigned mask = (1U << bits(from.format)) - 1;
  for (int c = 0; c < dim; ++c) {
    const auto [byte, shift] = code_place(from, at, c);
    codes[c] = static_cast<std::int8_t>(static_cast<int>(std::to_integer<unsigned>(*byte) >> shift & mask) - offset);
  }
}

int code_limit(Format format) {
  return format == Format::kInt8 ? 127 : format == Format::kInt4 ? 7 : (1 << bits(format)) - 1;
}

// Numbers of a row's scale tile: a scale, or a scale and a minimum, for each group of channels.
int scales_of_row(const RowPlanes& planes) {
  return scale_groups(planes.head_dim) * (has_minima(planes.format) ? 2 : 1);
}

void write_codes(const RowPlanes& to, std::uint32_t row, const float* x) {
  std::array<std::int8_t, kMaxHeadDim> codes;
  std::array<std::uint16_t, 2 * kMaxHeadDim / kScaleGroup> scales;
  const int limit = code_limit(to.format);
  if (has_minima(to.format))
    row_kernels().quantise_asym(x, to.head_dim, limit, codes.data(), scales.data(),
                                scales.data() + scale_groups(to.head_dim));
  else
    row_kernels().quantise(x, padded_dim(to.head_dim), limit, codes.data(), scales.data());
  std::uint16_t* const out = scales_of(to, row);
  for (int i = 0; i < scales_of_row(to); ++i) out[i * kTileRows] = scales[i];
  spread_codes(to, tile_row(to, row), codes.data());
}

void decode(const RowPlanes& from, std::uint32_t row, const std::int8_t* codes, float* x) {
  const bool channels = by_channel(from.format);
  const std::uint16_t* const scales = scales_of(from, row) - (channels ? row % kTileRows : 0);
  const int minima = channels ? padded_dim(from.head_dim) : scale_groups(from.head_dim) * kTileRows;
  for (int c = 0; c < from.head_dim; ++c) {
    const std::uint16_t* const scale = scales + (channels ? c : c / kScaleGroup * kTileRows);
    const float least = has_minima(from.format) ? f32_from_f16(scale[minima]) : 0.0F;
    x[c] = std::fma(f32_from_f16(*scale), static_cast<float>(codes[c]), least);
  }
}

// x: padded_dim channels.
void write_row(const RowPlanes& to, std::uint32_t row, const float* x) {
  const TileRow at = tile_row(to, row);
  const AttendKernels& kernels = row_kernels();
  const int dim = padded_dim(to.head_dim);
  if (to.format == Format::kF32) return spread(to, at, x);
  if (has_scales(to.format)) return write_codes(to, row, x);
  std::array<std::uint16_t, kMaxHeadDim> halves;
  (to.format == Format::kF16 ? kernels.to_f16 : kernels.to_bf16)(x, dim, halves.data());
  spread(to, at, halves.data());
}

// Rows of one group, with scales by channel: x is [n][padded_dim].
void write_group(const RowPlanes& to, std::uint32_t row, const float* x, int n) {
  const auto dim = static_cast<std::size_t>(padded_dim(to.head_dim));
  std::vector<std::int8_t> codes(static_cast<std::size_t>(n) * dim);
  auto* const scales = reinterpret_cast<std::uint16_t*>(to.scales.tile(to.memory, row / kTileRows));
  row_kernels().quantise_channels(x, n, static_cast<int>(dim), code_limit(to.format), codes.data(), scales,
                                  scales + dim);
  for (int i = 0; i < n; ++i)
    spread_codes(to, tile_row(to, row + static_cast<std::uint32_t>(i)), &codes[static_cast<std::size_t>(i) * dim]);
}

void write_groups(const RowPlanes& to, std::uint32_t row, const float* rows, std::size_t row_stride, int n) {
  const auto dim = static_cast<std::size_t>(padded_dim(to.head_dim));
  const std::uint32_t group_rows = kTileRows << to.scales.tile_shift, end = row + static_cast<std::uint32_t>(n);
  std::vector<float> x(group_rows * dim);
  while (row < end) {
    const std::uint32_t last = std::min(end, (row / group_rows + 1) * group_rows);
    for (std::uint32_t i = 0; i < last - row; ++i, rows += row_stride) std::copy(rows, rows + to.head_dim, &x[i * dim]);
    write_group(to, row, x.data(), static_cast<int>(last - row));
    row = last;
  }
}

}  // namespace

void write_rows(const RowPlanes& to, std::uint32_t row, const float* rows, std::size_t row_stride, int n) {
  assert(to.head_dim <= kMaxHeadDim);
  assert(n <= 0 || std::none_of(rows, rows + to.head_dim, [](float x) { return std::isnan(x); }));
  if (by_channel(to.format)) return write_groups(to, row, rows, row_stride, n);
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
    decode(from, row, codes.data(), x.data());
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
  assert(from.kind == to.kind && from.format == to.format && from.head_dim == to.head_dim && !by_channel(to.format));
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
  for (int i = 0; i < scales_of_row(from); ++i) out[i * kTileRows] = scales[i * kTileRows];
}

}  // namespace lamina
