// SPDX-License-Identifier: Apache-2.0
#include "kv/run.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <numeric>

namespace lamina {
namespace {

constexpr std::uint32_t kPosStep = 256;  // positions grow, and forget rows that left, by this many
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
    : k_(RowKind::kKey, shape, block_bytes, layout.k), v_(RowKind::kValue, shape, block_bytes, layout.v) {}

void Run::grow(BlockPool& pool, std::span<const Pos> pos) {
  const std::uint32_t from = last_;
  append_positions(pos);
  resize(pool, from);
}

void Run::append_positions(std::span<const Pos> pos) {
  assert(rows() == 0 || pos.empty() || pos_.back() < pos.front());
  if (pos_.size() + pos.size() > pos_.capacity()) {
    forget_left();
    const std::size_t room = (pos_.size() + pos.size() + kPosStep - 1) / kPosStep * kPosStep;
    pos_.reserve(room);
    mass_.reserve(room * columns_);
  }
  pos_.insert(pos_.end(), pos.begin(), pos.end());
  mass_.resize(pos_.size() * columns_);
  last_ += static_cast<std::uint32_t>(pos.size());
  if (!dead_.empty() && last_ > first_) dead_.resize((last_ - 1) / kTileRows + 1 - first_dead_tile_);
}

void Run::resize(BlockPool& pool, std::uint32_t writable) {
  if (rows() == 0) {
    first_ = last_ = 0;
    pos_ = std::vector<Pos>();  // = {} would keep the memory
    mass_ = std::vector<float>();
  }
  k_.resize(pool, {first_, last_}, writable);
  v_.resize(pool, {first_, last_}, writable);
}

std::size_t Run::encode(BlockPool& pool, RowKind kind, std::uint32_t end) {
  return of(kind).encode(pool, first_ + end);
}

void Run::forget_left() {
  const auto left = static_cast<std::ptrdiff_t>(pos_.size() - rows());
  pos_.erase(pos_.begin(), pos_.begin() + left);
  mass_.erase(mass_.begin(), mass_.begin() + left * static_cast<std::ptrdiff_t>(columns_));
}

void Run::shrink() {
  forget_left();
  const std::size_t room = (pos_.size() + kPosStep - 1) / kPosStep * kPosStep;
  pos_.shrink_to_fit();
  pos_.reserve(room);
  mass_.shrink_to_fit();
  mass_.reserve(room * columns_);
}

void Run::set_mass_columns(int lists, int columns) {
  const auto all = static_cast<std::size_t>(lists), now = static_cast<std::size_t>(columns), before = columns_ / all;
  if (all * now == columns_) return;
  std::vector<float> mass;
  mass.reserve(all * now * pos_.capacity());
  mass.resize(all * now * pos_.size());
  for (std::size_t list = 0; list < all * pos_.size(); ++list)
    std::copy_n(mass_.begin() + static_cast<std::ptrdiff_t>(list * before), std::min(now, before),
                mass.begin() + static_cast<std::ptrdiff_t>(list * now));
  mass_ = std::move(mass);
  columns_ = all * now;
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
  set_mass_columns(1, lists);
}

bool Run::is_dead(std::uint32_t row) const {
  if (dead_rows_ == 0) return false;
  const std::uint32_t at = first_ + row;
  return (dead_[at / kTileRows - first_dead_tile_] >> at % kTileRows & 1U) != 0;
}

std::uint32_t Run::rows_with(std::uint32_t living) const {
  assert(living <= live());
  std::uint32_t row = 0;
  for (; living > 0; ++row) living -= is_dead(row) ? 0 : 1;
  return row;
}

void Run::set_dead(std::uint32_t row, bool dead) {
  const std::uint32_t at = first_ + row;
  std::uint16_t& bits = dead_[at / kTileRows - first_dead_tile_];
  const unsigned bit = 1U << at % kTileRows;
  bits = static_cast<std::uint16_t>(dead ? bits | bit : bits & ~bit);
  dead_rows_ += dead ? 1 : -1U;
  if (dead_rows_ == 0) dead_ = std::vector<std::uint16_t>();
}

void Run::drop_front(BlockPool& pool, std::uint32_t n) {
  if (n == 0) return;
  assert(n <= rows());
  for (std::uint32_t row = 0; row < n && dead_rows_ > 0; ++row)
    if (is_dead(row)) set_dead(row, false);
  first_ += n;
  if (pos_.size() - rows() >= 2 * kPosStep) shrink();
  resize(pool, last_);
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
  if (pos_.capacity() - pos_.size() >= 2 * kPosStep) shrink();
  resize(pool, last_);
  drop_dead_ends(pool);
}

void Run::drop_dead_ends(BlockPool& pool) {
  if (dead_rows_ == 0) return;
  const std::uint32_t fixed = fixed_rows();
  std::uint32_t front = 0, back = 0;
  while (rows() - back > fixed && is_dead(rows() - 1 - back)) ++back;
  if (back > 0) return drop_back(pool, back);  // which comes back here for the front
  while (is_dead(front)) ++front;
  drop_front(pool, front);
}

void Run::share(BlockPool& pool) const {
  k_.share(pool);
  v_.share(pool);
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
  const std::uint32_t fixed = fixed_rows(), fixed_dead = fixed - living_before(fixed);
  if (dead_rows_ - fixed_dead > std::max<std::uint32_t>(kTileRows, rows() / kMostDead)) close_ranks(pool);
}

std::uint32_t Run::fixed_rows() const {
  std::uint32_t fixed = 0;
  for (const TensorRun* tensor : {&k_, &v_})
    if (by_channel(tensor->layout().format)) fixed = std::max(fixed, tensor->encoded() - first_);
  return fixed;
}

std::uint32_t Run::living_before(std::uint32_t row) const {
  std::uint32_t dead = 0;
  each_dead([&](std::uint32_t i) { dead += i < row ? 1 : 0; });
  return row - dead;
}

// Rows move towards the front in ascending order, so no row is overwritten before it has moved. Of each tensor the
// encoded rows stay the first ones.
void Run::close_ranks(BlockPool& pool) {
  const std::uint32_t fixed = fixed_rows();
  if (dead_rows_ == fixed - living_before(fixed)) return;
  std::vector<std::uint32_t> rows_kept(fixed);
  std::iota(rows_kept.begin(), rows_kept.end(), 0U);
  for (std::uint32_t row = fixed; row < rows(); ++row)
    if (!is_dead(row)) rows_kept.push_back(row);
  const auto kept_before = [&](std::uint32_t row) {
    return static_cast<std::uint32_t>(std::lower_bound(rows_kept.begin(), rows_kept.end(), row) - rows_kept.begin());
  };
  const std::uint32_t k_encoded = kept_before(encoded(RowKind::kKey)),
                      v_encoded = kept_before(encoded(RowKind::kValue));
  for (std::uint32_t row = fixed; row < rows() && dead_rows_ > 0; ++row)
    if (is_dead(row)) set_dead(row, false);
  const auto count = static_cast<std::uint32_t>(rows_kept.size());
  std::uint32_t unmoved = fixed;
  while (unmoved < count && rows_kept[unmoved] == unmoved) ++unmoved;
  k_.make_room(pool, first_ + k_encoded, first_ + unmoved);
  v_.make_room(pool, first_ + v_encoded, first_ + unmoved);
  Pos* const pos = pos_.data() + (pos_.size() - rows());
  for (std::uint32_t i = unmoved; i < count; ++i) {
    const std::uint32_t from = rows_kept[i];
    pos[i] = pos[from];
    copy_mass(*this, from, i);
    k_.move_row(pool, first_ + from, first_ + i, i < k_encoded);
    v_.move_row(pool, first_ + from, first_ + i, i < v_encoded);
  }
  k_.set_encoded(first_ + k_encoded);
  v_.set_encoded(first_ + v_encoded);
  drop_back(pool, rows() - count);
}

void Run::to_front(BlockPool& pool) {
  const std::uint32_t from = first_, n = rows();
  if (from == 0 || n == 0) return;
  assert(encoded(RowKind::kKey) == 0 && encoded(RowKind::kValue) == 0 && dead_rows_ == 0);
  for (TensorRun* tensor : {&k_, &v_}) {
    tensor->set_encoded(0);
    tensor->resize(pool, {0, last_}, 0);
    for (std::uint32_t row = 0; row < n; ++row) tensor->move_row(pool, from + row, row, false);
  }
  first_ = 0;
  last_ = n;
  resize(pool, last_);
}

void Run::write(const BlockPool& pool, std::uint32_t row, std::uint32_t n, RowKind kind, int copy, const float* x,
                std::size_t stride) {
  of(kind).write(pool, first_ + row, n, copy, x, stride);
}

void Run::write_gain(const BlockPool& pool, std::uint32_t row, RowKind kind, int gain, float value) {
  of(kind).write_gain(pool, first_ + row, gain, value);
}

void Run::read(const BlockPool& pool, std::uint32_t row, RowKind kind, int copy, float* x) const {
  of(kind).read(pool, first_ + row, copy, x);
}

void Run::append_encoded(BlockPool& pool, const Run& from, std::uint32_t n) {
  assert(columns_ == from.columns_);
  std::vector<std::uint32_t> moved;
  std::vector<Pos> pos;
  for (std::uint32_t row = 0; row < n; ++row) {
    if (from.is_dead(row)) continue;
    moved.push_back(row);
    pos.push_back(from.positions()[row]);
  }
  const std::uint32_t old_rows = rows();
  append_positions(pos);
  k_.skip_waiting(pool, last_);
  v_.skip_waiting(pool, last_);
  for (std::uint32_t i = 0; i < moved.size(); ++i) {
    copy_mass(from, moved[i], old_rows + i);
    k_.copy_from(pool, from.k_, from.first_ + moved[i], first_ + old_rows + i);
    v_.copy_from(pool, from.v_, from.first_ + moved[i], first_ + old_rows + i);
  }
}

void Run::copy_mass(const Run& from, std::uint32_t from_row, std::uint32_t row) {
  if (columns_ > 0) std::copy_n(&from.mass()[from_row * columns_], columns_, &mass()[row * columns_]);
}

std::vector<RowRange> Run::parts() const {
  std::array<std::uint32_t, 4> cuts = {first_, k_.encoded(), v_.encoded(), last_};
  std::sort(cuts.begin(), cuts.end());
  std::vector<RowRange> parts;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
    if (cuts[i] < cuts[i + 1]) parts.push_back({cuts[i], cuts[i + 1]});
  return parts;
}

Segment Run::segment(int head, int view, RowRange part, Pos shift) const {
  const TensorRun::Codes k = k_.codes_of(head, view, part.last <= k_.encoded());
  const TensorRun::Codes v = v_.codes_of(head, view, part.last <= v_.encoded());
  return {.k_format = k.format,
          .v_format = v.format,
          .k_codes = k.codes,
          .v_codes = v.codes,
          .k_scales = k.scales,
          .v_scales = v.scales,
          .k_gains = k.gains,
          .v_gains = v.gains,
          .first = part.first,
          .last = part.last,
          .pos = positions().data() + (part.first - first_),
          .shift = shift,
          .dead = dead_rows_ > 0 ? &dead_[part.first / kTileRows - first_dead_tile_] : nullptr};
}

KvBytes Run::bytes(const BlockPool& pool) const {
  KvBytes bytes;
  for (const TensorRun* tensor : {&k_, &v_}) {
    const std::size_t encoded = living_before(tensor->encoded() - first_), raw = live() - encoded;
    bytes.rows += encoded * tensor->row_bytes(true) + raw * tensor->row_bytes(false);
    bytes.scales += tensor->scale_bytes(encoded);
    bytes.gains += live() * tensor->gain_bytes();
  }
  bytes.positions = live() * sizeof(Pos);
  bytes.mass = live() * columns_ * sizeof(float);
  const std::size_t held = k_.held_bytes(pool) + v_.held_bytes(pool) + pos_.capacity() * sizeof(Pos) +
                           mass_.capacity() * sizeof(float) + dead_.capacity() * sizeof(std::uint16_t);
  bytes.slack = held - bytes.total();
  return bytes;
}

}  // namespace lamina
