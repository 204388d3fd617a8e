// SPDX-License-Identifier: Apache-2.0
// AXIS 3, bits: how a row is written. Rows are stored in tiles of 16; a tile's bytes are planes in the order that the
// kernels want, so attention reads codes and never a decompressed copy.
//
// With D = head_dim rounded up to 16 (padding is zero) and G = ceil(head_dim / 32) groups of channels:
//   f32 f16 bf16   K codes [D][16 rows]                V codes [16 rows][D]                 no scales
//   int8           K codes [D/4][16 rows][4 channels]  V codes [16/4][D][4 rows]            scales [G][16 rows] f16
//   int4           K codes [D/8][16 rows][4 bytes]     V codes [16/8][D][4 bytes]           scales [G][16 rows] f16
//   asym4          as int4                             as int4                              [2][G][16 rows] f16
//   asym2          K codes [D/16][16 rows][4 bytes]    V codes [D][4 bytes]                 [2][G][16 rows] f16
//   channel4 channel2  K codes as asym4 and asym2      keys only                            [2][D] f16, see below
// int8 and int4 are symmetric, one f16 scale for each row and group of 32 channels (the last group may be shorter):
//   scale = f16(max|x| / 127 or / 7), code = round(x / scale) clamped to +-127 or +-7, x ~ scale * code.
// K codes are stored offset (code + 128, code + 8) as the unsigned side of an integer dot product; V int8 codes are
// two's complement, V int4 codes are offset by 8. A byte of int4 K holds channel c (low nibble) and c + 4 (high nibble)
// of its group of 8; a byte of int4 V holds row r (low) and r + 4 (high) of its group of 8. A byte of 2-bit K holds
// channels c, c + 4, c + 8 and c + 12 of its group of 16, from the lowest bits up; of 2-bit V rows r, r + 4, …
// The others are asymmetric (KIVI, arXiv:2402.02750, section 3.1), with a minimum beside each scale:
//   least = f16(min x), scale = f16((max x - min x) / 15 or / 3), code = round((x - least) / scale), x ~ scale code +
//   least.
// asym*: for each row and group of 32 channels. channel*: for each channel and group of 32, 64 or 128 rows: a tile of
// their scale plane serves the group's 2, 4 or 8 tiles of codes, and a group is written all at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lamina {

enum class Format : std::uint8_t { kF32, kF16, kBF16, kInt8, kInt4, kAsym4, kAsym2, kChannel4, kChannel2 };
constexpr int kFormats = 9;

constexpr int kTileRows = 16;
constexpr int kScaleGroup = 32;  // channels that share a scale

constexpr int padded_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }
constexpr int scale_groups(int head_dim) { return (head_dim + kScaleGroup - 1) / kScaleGroup; }
constexpr bool has_scales(Format format) { return format >= Format::kInt8; }
constexpr bool has_minima(Format format) { return format >= Format::kAsym4; }
// Rows of a group share scales, so that none of them can move by itself.
constexpr bool by_channel(Format format) { return format >= Format::kChannel4; }
// How rows wait that will be written so.
constexpr Format raw_format(Format format) { return format == Format::kF32 ? Format::kF32 : Format::kF16; }
constexpr int bits(Format format) {
  constexpr int kBits[kFormats] = {32, 16, 16, 8, 4, 4, 2, 4, 2};
  return kBits[static_cast<int>(format)];
}
// Bytes of one tile (16 rows of one head) in the plane of codes and in the plane of scales.
constexpr std::size_t code_tile_bytes(Format format, int head_dim) {
  return static_cast<std::size_t>(padded_dim(head_dim)) * static_cast<std::size_t>(2 * bits(format));
}
constexpr std::size_t scale_tile_bytes(Format format, int head_dim) {
  if (!has_scales(format)) return 0;
  const int scales = by_channel(format) ? padded_dim(head_dim) : scale_groups(head_dim) * kTileRows;
  return static_cast<std::size_t>(has_minima(format) ? 2 * scales : scales) * sizeof(std::uint16_t);
}

}  // namespace lamina
