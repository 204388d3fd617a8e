// SPDX-License-Identifier: Apache-2.0
#include "kv/run.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "base/half.h"
#include "kernels/attend.h"

namespace lamina {
namespace {

constexpr std::uint32_t kPosStep = 256;  // positions grow, and forget rows that left, by this many
constexpr float kMaxHalf = 65504;

}  // namespace

KvBytes& KvBytes::operator+=(const KvBytes& other) {
  rows += other.rows;
  scales += other.scales;
  gains += other.gains;
  positions += other.positions;
  slack += other.slack;
  return *this;
}

Run::Run(const KvShape& shape, std::size_t block_bytes, const RunLayout& layout)
    : layout_(layout), heads_(shape.kv_heads), head_dim_(shape.head_dim) {
  for (const RowKind kind : {RowKind::kKey, RowKind::kValue})
    for (const What what : {What::kCodes, What::kScales, What::kGains}) {
      const Format format = layout.of(kind).format;
      const std::size_t tile = what == What::kCodes    ? code_tile_bytes(format, head_dim_)
                               : what == What::kScales ? scale_tile_bytes(format, head_dim_)
                                                       : kTileRows * sizeof(std::uint16_t);
      assert(tile <= block_bytes);
      const PlaneBlocks plane{.tiles_per_block = tile ? static_cast<std::uint32_t>(block_bytes / tile) : 1,
                              .tile_bytes = static_cast<std::uint32_t>(tile)};
      planes_.insert(planes_.end(), static_cast<std::size_t>(planes_of(kind, what)), plane);
    }
}

int Run::planes_of(RowKind kind, What what) const {
  const TensorLayout& tensor = layout_.of(kind);
  if (what == What::kGains) return tensor.gains;
  return what == What::kCodes || has_scales(tensor.format) ? tensor.copies * heads_ : 0;
}

std::size_t Run::first_plane(RowKind kind, What what) const {
  std::size_t first = 0;
  for (const RowKind k : {RowKind::kKey, RowKind::kValue})
    for (const What w : {What::kCodes, What::kScales, What::kGains}) {
      if (k == kind && w == what) return first;
      first += static_cast<std::size_t>(planes_of(k, w));
    }
  return first;
}

Plane Run::plane(RowKind kind, What what, int index) const {
  if (planes_of(kind, what) == 0) return {};
  const PlaneBlocks& plane = planes_[first_plane(kind, what) + static_cast<std::size_t>(index)];
  return {.blocks = plane.blocks.data(),
          .first_block = plane.first_block,
          .tiles_per_block = plane.tiles_per_block,
          .tile_bytes = plane.tile_bytes};
}

RowPlanes Run::row_planes(const BlockMemory& memory, RowKind kind, int copy, int head) const {
  return {.memory = memory,
          .kind = kind,
          .format = layout_.of(kind).format,
          .head_dim = head_dim_,
          .codes = plane(kind, What::kCodes, copy * heads_ + head),
          .scales = plane(kind, What::kScales, copy * heads_ + head)};
}

std::byte* Run::gain_at(const BlockMemory& memory, RowKind kind, int gain, std::uint32_t row) const {
  return plane(kind, What::kGains, gain).tile(memory, row / kTileRows) + row % kTileRows * sizeof(std::uint16_t);
}

void Run::grow(BlockPool& pool, std::span<const Pos> pos) {
  assert(rows() == 0 || pos.empty() || pos_.back() < pos.front());
  if (pos_.size() + pos.size() > pos_.capacity()) {
    if (pos_.size() > rows()) pos_.erase(pos_.begin(), pos_.end() - rows());
    pos_.reserve((pos_.size() + pos.size() + kPosStep - 1) / kPosStep * kPosStep);
  }
  pos_.insert(pos_.end(), pos.begin(), pos.end());
  const std::uint32_t from = last_;
  last_ += static_cast<std::uint32_t>(pos.size());
  make_writable(pool, from);
}

void Run::make_writable(BlockPool& pool, std::uint32_t row) {
  if (row >= last_) return;
  for (auto& [tiles_per_block, tile_bytes, first_block, blocks] : planes_) {
    const std::uint32_t rows_per_block = tiles_per_block * kTileRows;
    if (blocks.empty()) first_block = row / rows_per_block;
    const std::uint32_t end = (last_ - 1) / rows_per_block + 1 - first_block;
    for (std::uint32_t b = row / rows_per_block - first_block; b < blocks.size(); ++b) {
      if (!pool.shared(blocks[b])) continue;
      const BlockId copy = pool.acquire();
      const auto& [base, size] = pool.memory();
      if (base) std::memcpy(base + copy * size, base + blocks[b] * size, size);
      pool.release(blocks[b]);
      blocks[b] = copy;
    }
    while (blocks.size() < end) blocks.push_back(pool.acquire());
  }
}

void Run::free_unused(BlockPool& pool) {
  for (auto& [tiles_per_block, tile_bytes, first_block, blocks] : planes_) {
    const std::uint32_t rows_per_block = tiles_per_block * kTileRows;
    const std::uint32_t begin = rows() ? first_ / rows_per_block : 0;
    const std::uint32_t end = rows() ? (last_ - 1) / rows_per_block + 1 : begin;
    while (!blocks.empty() && first_block + blocks.size() > end) {
      pool.release(blocks.back());
      blocks.pop_back();
    }
    const std::size_t dead = std::min<std::size_t>(begin > first_block ? begin - first_block : 0, blocks.size());
    for (std::size_t b = 0; b < dead; ++b) pool.release(blocks[b]);
    blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(dead));
    first_block = blocks.empty() ? 0 : first_block + static_cast<std::uint32_t>(dead);
  }
  if (rows() == 0) {
    first_ = last_ = 0;
    pos_ = std::vector<Pos>();  // = {} would keep the memory
  }
}

void Run::drop_front(BlockPool& pool, std::uint32_t n) {
  if (n == 0) return;
  assert(n <= rows());
  first_ += n;
  if (pos_.size() - rows() >= 2 * kPosStep) {
    pos_.erase(pos_.begin(), pos_.end() - rows());
    pos_.shrink_to_fit();
    pos_.reserve((pos_.size() + kPosStep - 1) / kPosStep * kPosStep);
  }
  free_unused(pool);
}

void Run::drop_back(BlockPool& pool, std::uint32_t n) {
  if (n == 0) return;
  assert(n <= rows());
  last_ -= n;
  pos_.resize(pos_.size() - n);
  free_unused(pool);
}

void Run::share(BlockPool& pool) const {
  for (const PlaneBlocks& plane : planes_)
    for (const BlockId block : plane.blocks) pool.share(block);
}

void Run::keep(BlockPool& pool, std::span<const std::uint32_t> rows_kept) {
  const std::uint32_t count = static_cast<std::uint32_t>(rows_kept.size());
  if (count == rows()) return;
  if (count == 0 || rows_kept.front() == rows() - count) return drop_front(pool, rows() - count);
  // Rows move towards the front in ascending order, so no row is overwritten before it has moved.
  const std::uint32_t unmoved = static_cast<std::uint32_t>(
      std::mismatch(rows_kept.begin(), rows_kept.end(), rows_kept.begin(),
                    [&, i = 0U](std::uint32_t row, std::uint32_t) mutable { return row == i++; })
          .first -
      rows_kept.begin());
  make_writable(pool, first_ + unmoved);
  Pos* const pos = pos_.data() + (pos_.size() - rows());
  for (std::uint32_t i = unmoved; i < count; ++i) {
    pos[i] = pos[rows_kept[i]];
    if (!pool.counts_only()) move_row(pool.memory(), *this, first_ + rows_kept[i], first_ + i);
  }
  drop_back(pool, rows() - count);
}

void Run::write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, RowKind kind, int copy, const float* x) {
  if (pool.counts_only()) return;
  const auto dim = static_cast<std::size_t>(head_dim_), stride = static_cast<std::size_t>(heads_) * dim;
  for (int head = 0; head < heads_; ++head, x += dim)
    write_rows(row_planes(pool.memory(), kind, copy, head), first_ + row, x, stride, static_cast<int>(n));
}

void Run::write_gain(const BlockPool& pool, std::uint32_t row, RowKind kind, int gain, float value) {
  if (pool.counts_only()) return;
  const std::uint16_t half = f16_from_f32(std::min(value, kMaxHalf));
  std::memcpy(gain_at(pool.memory(), kind, gain, first_ + row), &half, sizeof half);
}

void Run::read(const BlockPool& pool, std::uint32_t row, RowKind kind, int copy, float* x) const {
  for (int head = 0; head < heads_; ++head, x += head_dim_)
    read_row(row_planes(pool.memory(), kind, copy, head), first_ + row, x);
}

void Run::append_from(BlockPool& pool, const Run& from, std::uint32_t n) {
  assert(layout_.k.copies == from.layout_.k.copies && layout_.v.copies == from.layout_.v.copies);
  assert(layout_.k.gains == from.layout_.k.gains && layout_.v.gains == from.layout_.v.gains);
  const std::uint32_t row = last_;
  grow(pool, from.positions().first(n));
  if (pool.counts_only()) return;
  for (std::uint32_t i = 0; i < n; ++i) move_row(pool.memory(), from, from.first_ + i, row + i);
}

void Run::move_row(const BlockMemory& memory, const Run& from, std::uint32_t from_row, std::uint32_t row) {
  for (const RowKind kind : {RowKind::kKey, RowKind::kValue}) {
    for (int copy = 0; copy < layout_.of(kind).copies; ++copy)
      for (int head = 0; head < heads_; ++head) {
        const RowPlanes source = from.row_planes(memory, kind, copy, head);
        const RowPlanes target = row_planes(memory, kind, copy, head);
        if (source.format == target.format) {
          copy_row(source, from_row, target, row);
        } else {
          std::array<float, kMaxHeadDim> x;
          read_row(source, from_row, x.data());
          write_rows(target, row, x.data(), x.size(), 1);
        }
      }
    for (int gain = 0; gain < layout_.of(kind).gains; ++gain)
      std::memcpy(gain_at(memory, kind, gain, row), from.gain_at(memory, kind, gain, from_row), sizeof(std::uint16_t));
  }
}

Segment Run::segment(int head, int view, Pos shift) const {
  const auto codes = [&](RowKind kind, What what) {
    return plane(kind, what, (layout_.of(kind).copies > 1 ? view : 0) * heads_ + head);
  };
  const auto gains = [&](RowKind kind) {
    const bool by_head = layout_.of(kind).gains > 2;
    return plane(kind, What::kGains, by_head ? view * heads_ + head : view);
  };
  return {.k_format = layout_.k.format,
          .v_format = layout_.v.format,
          .k_codes = codes(RowKind::kKey, What::kCodes),
          .v_codes = codes(RowKind::kValue, What::kCodes),
          .k_scales = codes(RowKind::kKey, What::kScales),
          .v_scales = codes(RowKind::kValue, What::kScales),
          .k_gains = gains(RowKind::kKey),
          .v_gains = gains(RowKind::kValue),
          .first = first_,
          .last = last_,
          .pos = positions().data(),
          .shift = shift};
}

KvBytes Run::bytes(const BlockPool& pool) const {
  KvBytes bytes;
  for (const TensorLayout& tensor : {layout_.k, layout_.v}) {
    const std::size_t codes = std::size_t{rows()} * static_cast<std::size_t>(heads_ * tensor.copies);
    bytes.rows += codes * static_cast<std::size_t>(head_dim_) * static_cast<std::size_t>(bits(tensor.format)) / 8;
    if (has_scales(tensor.format))
      bytes.scales += codes * static_cast<std::size_t>(scale_groups(head_dim_)) * sizeof(std::uint16_t);
    bytes.gains += std::size_t{rows()} * static_cast<std::size_t>(tensor.gains) * sizeof(std::uint16_t);
  }
  bytes.positions = rows() * sizeof(Pos);
  std::size_t blocks = 0;
  for (const PlaneBlocks& plane : planes_) blocks += plane.blocks.size();
  const std::size_t held = blocks * pool.memory().block_bytes + pos_.capacity() * sizeof(Pos);
  bytes.slack = held - bytes.total();
  return bytes;
}

}  // namespace lamina
