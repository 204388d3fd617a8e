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
constexpr std::uint32_t kMostDead = 16;  // one row in so many, or a tile, may be dead

}  // namespace

KvBytes& KvBytes::operator+=(const KvBytes& other) {
  rows += other.rows;
  scales += other.scales;
  gains += other.gains;
  positions += other.positions;
  mass += other.mass;
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
    forget_left();
    const std::size_t room = (pos_.size() + pos.size() + kPosStep - 1) / kPosStep * kPosStep;
    pos_.reserve(room);
    mass_.reserve(room * columns_);
  }
  pos_.insert(pos_.end(), pos.begin(), pos.end());
  mass_.resize(pos_.size() * columns_);
  const std::uint32_t from = last_;
  last_ += static_cast<std::uint32_t>(pos.size());
  if (!dead_.empty() && last_ > first_) dead_.resize((last_ - 1) / kTileRows + 1 - first_dead_tile_);
  make_writable(pool, from);
}

void Run::forget_left() {
  const auto left = static_cast<std::ptrdiff_t>(pos_.size() - rows());
  pos_.erase(pos_.begin(), pos_.begin() + left);
  mass_.erase(mass_.begin(), mass_.begin() + left * static_cast<std::ptrdiff_t>(columns_));
}

void Run::set_mass_columns(int columns) {
  const auto now = static_cast<std::size_t>(columns);
  if (now == columns_) return;
  forget_left();
  std::vector<float> mass;
  mass.reserve(now * pos_.capacity());
  mass.resize(now * pos_.size());
  for (std::size_t row = 0; row < pos_.size(); ++row)
    std::copy_n(mass_.begin() + static_cast<std::ptrdiff_t>(row * columns_), std::min(now, columns_),
                mass.begin() + static_cast<std::ptrdiff_t>(row * now));
  mass_ = std::move(mass);
  columns_ = now;
}

void Run::sum_mass(int lists, int kinds) {
  const std::size_t now = static_cast<std::size_t>(lists), part = columns_ / now;
  for (std::size_t row = 0; row < pos_.size(); ++row)
    for (std::size_t list = 0; list < now; ++list) {
      const float* const from = &mass_[row * columns_ + list * part];
      float sum = 0;
      for (std::size_t c = 0; c < part; c += static_cast<std::size_t>(kinds)) sum += from[c];
      mass_[row * columns_ + list] = sum;  // its own list is read by now
    }
  set_mass_columns(lists);
}

bool Run::is_dead(std::uint32_t row) const {
  if (dead_rows_ == 0) return false;
  const std::uint32_t at = first_ + row;
  return (dead_[at / kTileRows - first_dead_tile_] >> at % kTileRows & 1U) != 0;
}

void Run::set_dead(std::uint32_t row, bool dead) {
  const std::uint32_t at = first_ + row;
  std::uint16_t& bits = dead_[at / kTileRows - first_dead_tile_];
  const unsigned bit = 1U << at % kTileRows;
  bits = static_cast<std::uint16_t>(dead ? bits | bit : bits & ~bit);
  dead_rows_ += dead ? 1 : -1U;
  if (dead_rows_ == 0) dead_ = std::vector<std::uint16_t>();
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
    mass_ = std::vector<float>();
  }
}

void Run::drop_front(BlockPool& pool, std::uint32_t n) {
  if (n == 0) return;
  assert(n <= rows());
  for (std::uint32_t row = 0; row < n && dead_rows_ > 0; ++row)
    if (is_dead(row)) set_dead(row, false);
  first_ += n;
  if (pos_.size() - rows() >= 2 * kPosStep) {
    forget_left();
    const std::size_t room = (pos_.size() + kPosStep - 1) / kPosStep * kPosStep;
    pos_.shrink_to_fit();
    pos_.reserve(room);
    mass_.shrink_to_fit();
    mass_.reserve(room * columns_);
  }
  free_unused(pool);
  drop_dead_ends(pool);
}

void Run::drop_back(BlockPool& pool, std::uint32_t n) {
  if (n == 0) return;
  assert(n <= rows());
  for (std::uint32_t row = rows() - n; row < rows() && dead_rows_ > 0; ++row)
    if (is_dead(row)) set_dead(row, false);
  last_ -= n;
  pos_.resize(pos_.size() - n);
  mass_.resize(pos_.size() * columns_);
  free_unused(pool);
  drop_dead_ends(pool);
}

void Run::drop_dead_ends(BlockPool& pool) {
  if (dead_rows_ == 0) return;
  std::uint32_t front = 0, back = 0;
  while (is_dead(rows() - 1 - back)) ++back;
  if (back > 0) return drop_back(pool, back);  // which comes back here for the front
  while (is_dead(front)) ++front;
  drop_front(pool, front);
}

void Run::share(BlockPool& pool) const {
  for (const PlaneBlocks& plane : planes_)
    for (const BlockId block : plane.blocks) pool.share(block);
}

void Run::drop(BlockPool& pool, std::span<const std::uint32_t> dropped) {
  const auto count = static_cast<std::uint32_t>(dropped.size());
  if (count == 0) return;
  if (dropped.back() + 1 == count) return drop_front(pool, count);
  if (dead_.empty()) {
    first_dead_tile_ = first_ / kTileRows;
    dead_.resize((last_ - 1) / kTileRows + 1 - first_dead_tile_);
  }
  for (const std::uint32_t row : dropped) set_dead(row, true);
  if (live() == 0) return drop_front(pool, rows());
  drop_dead_ends(pool);
  if (dead_rows_ > std::max<std::uint32_t>(kTileRows, rows() / kMostDead)) close_ranks(pool);
}

// Rows move towards the front in ascending order, so no row is overwritten before it has moved.
void Run::close_ranks(BlockPool& pool) {
  if (dead_rows_ == 0) return;
  std::vector<std::uint32_t> living;
  living.reserve(live());
  each_living([&](std::uint32_t first, std::uint32_t last) {
    for (; first < last; ++first) living.push_back(first);
  });
  dead_ = std::vector<std::uint16_t>();
  dead_rows_ = 0;
  const auto count = static_cast<std::uint32_t>(living.size());
  std::uint32_t unmoved = 0;
  while (unmoved < count && living[unmoved] == unmoved) ++unmoved;
  make_writable(pool, first_ + unmoved);
  Pos* const pos = pos_.data() + (pos_.size() - rows());
  for (std::uint32_t i = unmoved; i < count; ++i) {
    pos[i] = pos[living[i]];
    copy_mass(*this, living[i], i);
    if (!pool.counts_only()) move_row(pool.memory(), *this, first_ + living[i], first_ + i);
  }
  drop_back(pool, rows() - count);
}

void Run::write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, RowKind kind, int copy, const float* x,
                std::size_t stride) {
  if (pool.counts_only()) return;
  for (int head = 0; head < heads_; ++head, x += head_dim_)
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
  assert(columns_ == from.columns_);
  std::vector<std::uint32_t> moved;
  std::vector<Pos> pos;
  for (std::uint32_t row = 0; row < n; ++row) {
    if (from.is_dead(row)) continue;
    moved.push_back(row);
    pos.push_back(from.positions()[row]);
  }
  const std::uint32_t old_rows = rows();
  grow(pool, pos);
  for (std::uint32_t i = 0; i < moved.size(); ++i) {
    copy_mass(from, moved[i], old_rows + i);
    if (!pool.counts_only()) move_row(pool.memory(), from, from.first_ + moved[i], first_ + old_rows + i);
  }
}

void Run::copy_mass(const Run& from, std::uint32_t from_row, std::uint32_t row) {
  if (columns_ > 0) std::copy_n(&from.mass()[from_row * columns_], columns_, &mass()[row * columns_]);
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
          .shift = shift,
          .dead = dead_rows_ > 0 ? &dead_[first_ / kTileRows - first_dead_tile_] : nullptr};
}

KvBytes Run::bytes(const BlockPool& pool) const {
  KvBytes bytes;
  for (const TensorLayout& tensor : {layout_.k, layout_.v}) {
    const std::size_t codes = std::size_t{live()} * static_cast<std::size_t>(heads_ * tensor.copies);
    bytes.rows += codes * static_cast<std::size_t>(head_dim_) * static_cast<std::size_t>(bits(tensor.format)) / 8;
    if (has_scales(tensor.format))
      bytes.scales += codes * static_cast<std::size_t>(scale_groups(head_dim_)) * sizeof(std::uint16_t);
    bytes.gains += std::size_t{live()} * static_cast<std::size_t>(tensor.gains) * sizeof(std::uint16_t);
  }
  bytes.positions = live() * sizeof(Pos);
  bytes.mass = live() * columns_ * sizeof(float);
  std::size_t blocks = 0;
  for (const PlaneBlocks& plane : planes_) blocks += plane.blocks.size();
  const std::size_t held = blocks * pool.memory().block_bytes + pos_.capacity() * sizeof(Pos) +
                           mass_.capacity() * sizeof(float) + dead_.capacity() * sizeof(std::uint16_t);
  bytes.slack = held - bytes.total();
  return bytes;
}

}  // namespace lamina
