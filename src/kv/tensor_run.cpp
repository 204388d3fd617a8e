// SPDX-License-Identifier: Apache-2.0
#include "kv/tensor_run.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "base/half.h"
#include "kernels/attend.h"

namespace lamina {
namespace {

constexpr float kMaxHalf = 65504;
constexpr std::size_t kSpareIds = 16;  // unused room of a list of blocks that is not worth a copy

std::uint32_t scale_shift(const TensorLayout& layout) {
  assert(std::has_single_bit(static_cast<unsigned>(layout.group)) && layout.group >= kTileRows);
  return static_cast<std::uint32_t>(std::countr_zero(static_cast<unsigned>(layout.group / kTileRows)));
}

}  // namespace

TensorRun::TensorRun(RowKind kind, const KvShape& shape, std::size_t block_bytes, const TensorLayout& layout)
    : kind_(kind), layout_(layout), heads_(shape.kv_heads), head_dim_(shape.head_dim) {
  for (const What what : kAll) {
    const std::size_t tile = what == What::kRaw      ? code_tile_bytes(layout.raw, head_dim_)
                             : what == What::kCodes  ? code_tile_bytes(layout.format, head_dim_)
                             : what == What::kScales ? scale_tile_bytes(layout.format, head_dim_)
                                                     : kTileRows * sizeof(std::uint16_t);
    assert(tile <= block_bytes);
    const PlaneBlocks plane{.tiles_per_block = tile ? static_cast<std::uint32_t>(block_bytes / tile) : 1,
                            .tile_bytes = static_cast<std::uint32_t>(tile),
                            .tile_shift = what == What::kScales ? scale_shift(layout) : 0};
    planes_.insert(planes_.end(), static_cast<std::size_t>(planes_of(what)), plane);
  }
}

int TensorRun::planes_of(What what) const {
  if (what == What::kGains) return layout_.gains;
  const bool has = what == What::kCodes || (what == What::kRaw ? layout_.waits() : has_scales(layout_.format));
  return has ? layout_.copies * heads_ : 0;
}

std::size_t TensorRun::first_plane(What what) const {
  std::size_t first = 0;
  for (const What before : kAll) {
    if (before == what) break;
    first += static_cast<std::size_t>(planes_of(before));
  }
  return first;
}

RowRange TensorRun::rows_of(What what) const {
  if (what == What::kGains) return rows_;
  return what == What::kRaw ? RowRange{encoded(), rows_.last} : RowRange{rows_.first, encoded()};
}

Plane TensorRun::plane(What what, int index) const {
  if (planes_of(what) == 0) return {};
  const PlaneBlocks& plane = planes_[first_plane(what) + static_cast<std::size_t>(index)];
  return {.blocks = plane.blocks.data(),
          .first_block = plane.first_block,
          .tiles_per_block = plane.tiles_per_block,
          .tile_bytes = plane.tile_bytes,
          .tile_shift = plane.tile_shift};
}

RowPlanes TensorRun::row_planes(const BlockMemory& memory, int copy, int head, bool encoded) const {
  const int index = copy * heads_ + head;
  return {.memory = memory,
          .kind = kind_,
          .format = encoded ? layout_.format : layout_.raw,
          .head_dim = head_dim_,
          .codes = plane(encoded ? What::kCodes : What::kRaw, index),
          .scales = encoded ? plane(What::kScales, index) : Plane{}};
}

std::byte* TensorRun::gain_at(const BlockMemory& memory, int gain, std::uint32_t row) const {
  return plane(What::kGains, gain).tile(memory, row / kTileRows) + row % kTileRows * sizeof(std::uint16_t);
}

// The plane has a block wherever it has a row, and no other; blocks of rows from `writable` on are not shared.
void TensorRun::cover(BlockPool& pool, PlaneBlocks& plane, RowRange rows, std::uint32_t writable) {
  auto& [tiles_per_block, tile_bytes, tile_shift, first_block, blocks] = plane;
  const std::uint32_t rows_per_block = tiles_per_block * kTileRows << tile_shift;
  const std::uint32_t begin = rows.size() ? rows.first / rows_per_block : 0;
  const std::uint32_t end = rows.size() ? (rows.last - 1) / rows_per_block + 1 : begin;
  while (!blocks.empty() && first_block + blocks.size() > end) {
    pool.release(blocks.back());
    blocks.pop_back();
  }
  const std::size_t left = std::min<std::size_t>(begin > first_block ? begin - first_block : 0, blocks.size());
  for (std::size_t b = left; b-- > 0;) pool.release(blocks[b]);  // so that they are acquired in order again
  blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(left));
  first_block = blocks.empty() ? begin : first_block + static_cast<std::uint32_t>(left);
  if (blocks.capacity() > 2 * blocks.size() + kSpareIds) blocks.shrink_to_fit();
  while (first_block > begin) {  // NOLINT(bugprone-infinite-loop): it is a reference
    blocks.insert(blocks.begin(), pool.acquire());
    --first_block;
  }
  for (std::size_t b = std::max(writable / rows_per_block, first_block) - first_block; b < blocks.size(); ++b) {
    if (!pool.shared(blocks[b])) continue;
    const BlockId copy = pool.acquire();
    const auto& [base, size] = pool.memory();
    if (base) std::memcpy(base + copy * size, base + blocks[b] * size, size);
    pool.release(blocks[b]);
    blocks[b] = copy;
  }
  while (first_block + blocks.size() < end) blocks.push_back(pool.acquire());
}

void TensorRun::resize(BlockPool& pool, RowRange rows, std::uint32_t writable) {
  rows_ = rows;
  encoded_ = std::clamp(encoded_, rows.first, rows.last);
  for (const What what : kAll)
    for (int i = 0; i < planes_of(what); ++i)
      cover(pool, planes_[first_plane(what) + static_cast<std::size_t>(i)], rows_of(what), writable);
}

std::size_t TensorRun::encode(BlockPool& pool, std::uint32_t end) {
  if (!layout_.waits() || end <= encoded_) return 0;
  const RowRange now{encoded_, end};
  for (const What what : {What::kCodes, What::kScales})
    for (int i = 0; i < planes_of(what); ++i)
      cover(pool, planes_[first_plane(what) + static_cast<std::size_t>(i)], {rows_.first, end}, now.first);
  if (!pool.counts_only()) {
    const auto dim = static_cast<std::size_t>(head_dim_);
    std::vector<float> x(now.size() * dim);
    for (int copy = 0; copy < layout_.copies; ++copy)
      for (int head = 0; head < heads_; ++head) {
        const RowPlanes raw = row_planes(pool.memory(), copy, head, false);
        for (std::uint32_t i = 0; i < now.size(); ++i) read_row(raw, now.first + i, &x[i * dim]);
        write_rows(row_planes(pool.memory(), copy, head, true), now.first, x.data(), dim, static_cast<int>(now.size()));
      }
  }
  encoded_ = end;
  resize(pool, rows_, rows_.last);
  return now.size() * row_bytes(true) + scale_bytes(now.size());
}

void TensorRun::skip_waiting(BlockPool& pool, std::uint32_t end) {
  assert(encoded() == rows_.last);
  const std::uint32_t first = rows_.last;
  encoded_ = rows_.last = end;
  resize(pool, rows_, first);
}

void TensorRun::write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, int copy, const float* x,
                      std::size_t stride) {
  assert(!layout_.waits() || row >= encoded_);
  if (pool.counts_only()) return;
  for (int head = 0; head < heads_; ++head, x += head_dim_)
    write_rows(row_planes(pool.memory(), copy, head, !layout_.waits()), row, x, stride, static_cast<int>(n));
}

void TensorRun::write_gain(const BlockPool& pool, std::uint32_t row, int gain, float value) {
  if (pool.counts_only()) return;
  const std::uint16_t half = f16_from_f32(std::min(value, kMaxHalf));
  std::memcpy(gain_at(pool.memory(), gain, row), &half, sizeof half);
}

void TensorRun::read(const BlockPool& pool, std::uint32_t row, int copy, float* x) const {
  for (int head = 0; head < heads_; ++head, x += head_dim_)
    read_row(row_planes(pool.memory(), copy, head, is_encoded(row)), row, x);
}

void TensorRun::copy_from(const BlockPool& pool, const TensorRun& from, std::uint32_t from_row, std::uint32_t row) {
  copy_row_of(pool, from, from_row, from.is_encoded(from_row), row, is_encoded(row));
}

void TensorRun::make_room(BlockPool& pool, std::uint32_t encoded, std::uint32_t writable) {
  for (const What what : kAll) {
    RowRange rows = rows_of(what);
    if (what == What::kRaw) rows.first = encoded;
    for (int i = 0; i < planes_of(what); ++i)
      cover(pool, planes_[first_plane(what) + static_cast<std::size_t>(i)], rows, writable);
  }
}

void TensorRun::move_row(const BlockPool& pool, std::uint32_t from, std::uint32_t to, bool encoded) {
  const bool codes = encoded || !layout_.waits();
  copy_row_of(pool, *this, from, codes, to, codes);
}

void TensorRun::copy_row_of(const BlockPool& pool, const TensorRun& from, std::uint32_t from_row, bool from_encoded,
                            std::uint32_t row, bool encoded) {
  assert(layout_.copies == from.layout_.copies && layout_.gains == from.layout_.gains);
  if (pool.counts_only()) return;
  const BlockMemory& memory = pool.memory();
  for (int copy = 0; copy < layout_.copies; ++copy)
    for (int head = 0; head < heads_; ++head) {
      const RowPlanes source = from.row_planes(memory, copy, head, from_encoded);
      const RowPlanes target = row_planes(memory, copy, head, encoded);
      if (source.format == target.format) {
        copy_row(source, from_row, target, row);
      } else {
        std::array<float, kMaxHeadDim> x;
        read_row(source, from_row, x.data());
        write_rows(target, row, x.data(), x.size(), 1);
      }
    }
  for (int gain = 0; gain < layout_.gains; ++gain)
    std::memcpy(gain_at(memory, gain, row), from.gain_at(memory, gain, from_row), sizeof(std::uint16_t));
}

void TensorRun::share(BlockPool& pool) const {
  for (const PlaneBlocks& plane : planes_)
    for (const BlockId block : plane.blocks) pool.share(block);
}

TensorRun::Codes TensorRun::codes_of(int head, int view, bool encoded) const {
  const int index = (layout_.copies > 1 ? view : 0) * heads_ + head;
  const bool gain_by_head = layout_.gains > 2;
  return {.format = encoded ? layout_.format : layout_.raw,
          .codes = plane(encoded ? What::kCodes : What::kRaw, index),
          .scales = encoded ? plane(What::kScales, index) : Plane{},
          .gains = plane(What::kGains, gain_by_head ? view * heads_ + head : view)};
}

std::size_t TensorRun::row_bytes(bool encoded) const {
  const Format format = encoded ? layout_.format : layout_.raw;
  return static_cast<std::size_t>(heads_ * layout_.copies) * static_cast<std::size_t>(head_dim_) *
         static_cast<std::size_t>(bits(format)) / 8;
}

std::size_t TensorRun::scale_bytes(std::size_t encoded) const {
  const std::size_t heads = static_cast<std::size_t>(heads_) * static_cast<std::size_t>(layout_.copies),
                    sizes = has_minima(layout_.format) ? 2 : 1;
  if (!has_scales(layout_.format)) return 0;
  const std::size_t scales = by_channel(layout_.format) ? static_cast<std::size_t>(head_dim_) * encoded /
                                                              static_cast<std::size_t>(layout_.group)
                                                        : static_cast<std::size_t>(scale_groups(head_dim_)) * encoded;
  return heads * sizes * scales * sizeof(std::uint16_t);
}

std::size_t TensorRun::gain_bytes() const { return static_cast<std::size_t>(layout_.gains) * sizeof(std::uint16_t); }

std::size_t TensorRun::held_bytes(const BlockPool& pool) const {
  std::size_t bytes = 0;
  for (const PlaneBlocks& plane : planes_)
    bytes += plane.blocks.size() * pool.memory().block_bytes + plane.blocks.capacity() * sizeof(BlockId);
  return bytes;
}

}  // namespace lamina
