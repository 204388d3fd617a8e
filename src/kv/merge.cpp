// SPDX-License-Identifier: Apache-2.0
// Merge: the rows that the two layers of a pair have appended become one row for both, but for those that MiniCache
// keeps apart. Once a row, at the commit after its step: the step itself reads both layers' rows as they are.
#include <algorithm>
#include <array>
#include <cmath>

#include "kv/slot.h"

namespace lamina {
namespace {

// Without data (`plan`): every so manieth row is kept apart, ceil(keep n) of the first n.
bool assumed_apart(double keep, Pos pos) { return std::ceil((pos + 1) * keep) > std::ceil(pos * keep); }

std::size_t width_of(const KvShape& shape) {
  return static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim);
}

}  // namespace

void Slot::merge(BlockPool& pool, Phase phase) {
  const std::uint32_t rows = is_pair() ? tail_[0].rows() : 0;
  if (rows == 0) return;
  const std::vector<unsigned> kinds = decide(pool, phase);
  std::array<std::vector<Pos>, kKinds> pos;
  for (std::uint32_t row = 0; row < rows; ++row) pos[kinds[row]].push_back(tail_[0].positions()[row]);
  std::array<std::uint32_t, kKinds> next{};
  for (unsigned kind = 0; kind < kKinds; ++kind) {
    next[kind] = rows_[kind].rows();
    rows_[kind].grow(pool, pos[kind]);
  }
  for (std::uint32_t row = 0; row < rows; ++row) {
    const std::uint32_t to = next[kinds[row]]++;
    rows_[kinds[row]].copy_mass(tail_[0], row, to);
    if (!pool.counts_only()) merge_row(pool, row, kinds[row], to);
  }
  for (Run& tail : tail_) tail.drop_front(pool, rows);
}

// What is merged of each row of the tails.
std::vector<unsigned> Slot::decide(const BlockPool& pool, Phase phase) {
  const std::span<const Pos> pos = tail_[0].positions();
  const auto apart = [&](bool merges, RowKind kind, Retention& retention) -> std::vector<bool> {
    std::vector<bool> result(pos.size(), !merges);
    if (!merges) return result;
    if (pool.counts_only()) {
      for (std::size_t i = 0; i < pos.size(); ++i) result[i] = assumed_apart(merge_->keep, pos[i]);
      return result;
    }
    const std::vector<double> d = distances(pool, kind);
    if (phase != Phase::kDecode) return retention.prompt(*merge_, d);
    for (std::size_t i = 0; i < d.size(); ++i) result[i] = retention.decoded(*merge_, d[i]);
    return result;
  };
  const std::vector<bool> keys = apart(merge_->keys, RowKind::kKey, apart_keys_);
  const std::vector<bool> values =
      merge_->index == MiniCache::Index::kKeys ? keys : apart(merge_->values, RowKind::kValue, apart_values_);
  std::vector<unsigned> kinds(pos.size());
  for (std::size_t i = 0; i < pos.size(); ++i) {
    const bool both = merge_->index == MiniCache::Index::kUnion && (keys[i] || values[i]);
    kinds[i] = (keys[i] || both ? 0 : kKeysMerged) + (values[i] || both ? 0 : kValuesMerged);
  }
  return kinds;
}

// [row of the tails] the angular distance between the layers' rows, or the mean over heads.
std::vector<double> Slot::distances(const BlockPool& pool, RowKind kind) const {
  const std::size_t width = width_of(shape_),
                    part = merge_->by_head ? static_cast<std::size_t>(shape_.head_dim) : width;
  std::vector<float> lower(width), deeper(width);
  std::vector<double> distances(tail_[0].rows());
  for (std::uint32_t row = 0; row < distances.size(); ++row) {
    tail_[0].read(pool, row, kind, 0, lower.data());
    tail_[1].read(pool, row, kind, 0, deeper.data());
    for (std::size_t at = 0; at < width; at += part)
      distances[row] += angular_distance(std::span(lower).subspan(at, part), std::span(deeper).subspan(at, part)) *
                        static_cast<double>(part) / static_cast<double>(width);
  }
  return distances;
}

void Slot::merge_row(const BlockPool& pool, std::uint32_t row, unsigned merged, std::uint32_t to) {
  const std::size_t width = width_of(shape_),
                    part = merge_->by_head ? static_cast<std::size_t>(shape_.head_dim) : width;
  std::vector<float> lower(width), deeper(width), direction(width);
  Run& run = rows_[merged];
  for (const RowKind kind : {RowKind::kKey, RowKind::kValue}) {
    tail_[0].read(pool, row, kind, 0, lower.data());
    tail_[1].read(pool, row, kind, 0, deeper.data());
    if ((merged & (kind == RowKind::kKey ? kKeysMerged : kValuesMerged)) == 0) {
      run.write(pool, to, 1, kind, 0, lower.data(), width);
      run.write(pool, to, 1, kind, 1, deeper.data(), width);
      continue;
    }
    const int parts = static_cast<int>(width / part), gains = run.layout().of(kind).gains;
    for (int i = 0; i < parts; ++i) {
      const std::size_t at = static_cast<std::size_t>(i) * part;
      const Gains gain = merge_rows(merge_->merge, merge_->t, std::span(lower).subspan(at, part),
                                    std::span(deeper).subspan(at, part), std::span(direction).subspan(at, part));
      if (gains == 0) continue;
      run.write_gain(pool, to, kind, i, gain.lower);
      run.write_gain(pool, to, kind, parts + i, gain.deeper);
    }
    run.write(pool, to, 1, kind, 0, direction.data(), width);
  }
}

MergeCount Slot::merged() const {
  MergeCount count;
  if (!is_pair()) return count;
  for (const auto* group : {&pinned_, &rows_})
    for (unsigned kind = 0; kind < kKinds; ++kind) {
      const std::size_t rows = (*group)[kind].live();
      const std::size_t tensors = std::size_t{merge_->keys} + std::size_t{merge_->values};
      const std::size_t merged = (kind & kKeysMerged ? 1U : 0U) + (kind & kValuesMerged ? 1U : 0U);
      count.merged += rows * merged;
      count.apart += rows * (tensors - merged);
    }
  return count;
}

}  // namespace lamina
