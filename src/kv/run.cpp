// SPDX-License-Identifier: Apache-2.0
#include "kv/run.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/attend.h"

namespace lamina {
namespace {

constexpr std::uint32_t kPosStep = 256;  // positions grow, and forget rows that left, by this many

}  // namespace

KvBytes& KvBytes::operator+=(const KvBytes& other) {
  rows += other.rows;
  scales += other.scales;
  gains += other.gains;
  positions += other.positions;
  slack += other.slack;
  return *this;
}

Run::Run(const KvShape& shape, std::size_t block_bytes, Format k, Format v)
    : k_(k), v_(v), heads_(shape.kv_heads), head_dim_(shape.head_dim), planes_(static_cast<std::size_t>(heads_)) {
  const auto plane = [&](std::size_t tile) {
    assert(tile <= block_bytes);
    return PlaneShape{.tiles_per_block = tile ? static_cast<std::uint32_t>(block_bytes / tile) : 1,
                      .tile_bytes = static_cast<std::uint32_t>(tile)};
  };
  shapes_[kKCodes] = plane(code_tile_bytes(k, head_dim_));
  shapes_[kVCodes] = plane(code_tile_bytes(v, head_dim_));
  shapes_[kKScales] = plane(scale_tile_bytes(k, head_dim_));
  shapes_[kVScales] = plane(scale_tile_bytes(v, head_dim_));
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
  for (auto& head : planes_)
    for (std::size_t p = 0; p < kPlanes; ++p) {
      if (shapes_[p].tile_bytes == 0) continue;
      const std::uint32_t rows_per_block = shapes_[p].tiles_per_block * kTileRows;
      auto& [blocks, first_block] = head[p];
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
  for (auto& head : planes_)
    for (std::size_t p = 0; p < kPlanes; ++p) {
      if (shapes_[p].tile_bytes == 0) continue;
      const std::uint32_t rows_per_block = shapes_[p].tiles_per_block * kTileRows;
      auto& [blocks, first_block] = head[p];
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
  for (const auto& head : planes_)
    for (const auto& plane : head)
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
    if (!pool.counts_only())
      for (int head = 0; head < heads_; ++head) move_row(pool.memory(), head, *this, first_ + rows_kept[i], first_ + i);
  }
  drop_back(pool, rows() - count);
}

void Run::write_last(BlockPool& pool, std::uint32_t n, const float* k, const float* v) {
  if (pool.counts_only()) return;
  const auto dim = static_cast<std::size_t>(head_dim_), stride = static_cast<std::size_t>(heads_) * dim;
  for (int head = 0; head < heads_; ++head) {
    const std::size_t offset = static_cast<std::size_t>(head) * dim;
    write_rows(planes(pool.memory(), head, RowKind::kKey), last_ - n, k + offset, stride, static_cast<int>(n));
    write_rows(planes(pool.memory(), head, RowKind::kValue), last_ - n, v + offset, stride, static_cast<int>(n));
  }
}

void Run::append_from(BlockPool& pool, const Run& from, std::uint32_t n) {
  const std::uint32_t row = last_;
  grow(pool, from.positions().first(n));
  if (pool.counts_only()) return;
  for (int head = 0; head < heads_; ++head)
    for (std::uint32_t i = 0; i < n; ++i) move_row(pool.memory(), head, from, from.first_ + i, row + i);
}

void Run::move_row(const BlockMemory& memory, int head, const Run& from, std::uint32_t from_row, std::uint32_t row) {
  for (const RowKind kind : {RowKind::kKey, RowKind::kValue}) {
    const RowPlanes source = from.planes(memory, head, kind), target = planes(memory, head, kind);
    if (source.format == target.format) {
      copy_row(source, from_row, target, row);
    } else {
      std::array<float, kMaxHeadDim> x;
      read_row(source, from_row, x.data());
      write_rows(target, row, x.data(), x.size(), 1);
    }
  }
}

RowPlanes Run::planes(const BlockMemory& memory, int head, RowKind kind) const {
  const bool key = kind == RowKind::kKey;
  return {.memory = memory,
          .kind = kind,
          .format = key ? k_ : v_,
          .head_dim = head_dim_,
          .codes = plane(head, key ? kKCodes : kVCodes),
          .scales = plane(head, key ? kKScales : kVScales)};
}

Plane Run::plane(int head, std::size_t which) const {
  const auto& [blocks, first_block] = planes_[static_cast<std::size_t>(head)][which];
  if (shapes_[which].tile_bytes == 0) return {};
  return {.blocks = blocks.data(),
          .first_block = first_block,
          .tiles_per_block = shapes_[which].tiles_per_block,
          .tile_bytes = shapes_[which].tile_bytes};
}

Segment Run::segment(int head, Pos shift) const {
  return {.k_format = k_,
          .v_format = v_,
          .k_codes = plane(head, kKCodes),
          .v_codes = plane(head, kVCodes),
          .k_scales = plane(head, kKScales),
          .v_scales = plane(head, kVScales),
          .k_gains = {},
          .v_gains = {},
          .first = first_,
          .last = last_,
          .pos = positions().data(),
          .shift = shift};
}

KvBytes Run::bytes(const BlockPool& pool) const {
  const std::size_t live = static_cast<std::size_t>(rows()) * static_cast<std::size_t>(heads_);
  std::size_t blocks = 0;
  for (const auto& head : planes_)
    for (const auto& plane : head) blocks += plane.blocks.size();
  KvBytes bytes;
  bytes.rows = live * static_cast<std::size_t>(head_dim_) * static_cast<std::size_t>(bits(k_) + bits(v_)) / 8;
  bytes.scales = live * static_cast<std::size_t>(scale_groups(head_dim_)) * 2 *
                 static_cast<std::size_t>(has_scales(k_) + has_scales(v_));
  bytes.positions = rows() * sizeof(Pos);
  bytes.slack =
      blocks * pool.memory().block_bytes - bytes.rows - bytes.scales + pos_.capacity() * sizeof(Pos) - bytes.positions;
  return bytes;
}

}  // namespace lamina
