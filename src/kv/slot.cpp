// SPDX-License-Identifier: Apache-2.0
#include "kv/slot.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace lamina {
namespace {

std::uint32_t rows_before(const Run& run, Pos pos) {
  const auto all = run.positions();
  if (all.empty() || all.back() < pos) return run.rows();  // mostly; a search would wait for memory at every step
  return static_cast<std::uint32_t>(std::lower_bound(all.begin(), all.end(), pos) - all.begin());
}

}  // namespace

Slot::Slot(const KvShape& shape, std::size_t block_bytes, const SlotFormats& formats, Pos window,
           const MiniCache* merge)
    : shape_(shape), formats_(formats), window_(window), merge_(merge) {
  for (unsigned kind = 0; kind < (is_pair() ? kKinds : 1); ++kind) {
    RunLayout pinned = layout(kind);
    for (TensorLayout* tensor : {&pinned.k, &pinned.v})
      if (pins_first()) tensor->format = tensor->raw;
    pinned_.emplace_back(shape, block_bytes, pinned);
    rows_.emplace_back(shape, block_bytes, layout(kind));
  }
  const RunLayout raw{.k = {.raw = formats.raw_k, .format = formats.raw_k},
                      .v = {.raw = formats.raw_v, .format = formats.raw_v}};
  if (is_pair()) tail_.assign(2, Run(shape, block_bytes, raw));
}

// How rows are written that are merged so. Directions are encoded, gains and rows kept apart are not.
RunLayout Slot::layout(unsigned merged) const {
  const auto tensor = [&](bool merges, bool is_merged, Format raw, Format encoded) -> TensorLayout {
    const bool apart = merges && !is_merged;
    return {.raw = raw,
            .format = apart ? raw : encoded,
            .copies = is_pair() && !is_merged ? 2 : 1,
            .gains = is_merged ? merge_->gains(shape_.kv_heads) : 0,
            .group = by_channel(encoded) ? static_cast<int>(formats_.kivi.group) : kTileRows};
  };
  const bool keys = is_pair() && merge_->keys, values = is_pair() && merge_->values;
  return {.k = tensor(keys, (merged & kKeysMerged) != 0, formats_.raw_k, formats_.k),
          .v = tensor(values, (merged & kValuesMerged) != 0, formats_.raw_v, formats_.v)};
}

std::vector<const Run*> Slot::runs() const {
  std::vector<const Run*> all;
  for (const auto* group : {&pinned_, &rows_, &tail_})
    for (const Run& run : *group) all.push_back(&run);
  return all;
}

std::vector<Run*> Slot::runs() {
  std::vector<Run*> all;
  for (auto* group : {&pinned_, &rows_, &tail_})
    for (Run& run : *group) all.push_back(&run);
  return all;
}

void Slot::append(BlockPool& pool, int view, std::span<const Pos> pos, const float* k, const float* v,
                  std::size_t stride) {
  Run& run = is_pair() ? tail_.at(static_cast<std::size_t>(view)) : rows_[0];
  const std::uint32_t row = rows_before(run, pos.front()), n = static_cast<std::uint32_t>(pos.size());
  run.drop_back(pool, run.rows() - row);
  run.grow(pool, pos);
  run.write(pool, row, n, RowKind::kKey, 0, k, stride);
  run.write(pool, row, n, RowKind::kValue, 0, v, stride);
}

std::span<const std::span<const Segment>> Slot::segments(int view, bool renumbers) {
  const Pos everything = std::numeric_limits<Pos>::max();
  Pos pinned_end = 0, others_begin = everything;
  std::vector<const Run*> read;
  for (const auto* group : {&pinned_, &rows_, &tail_})
    for (const Run& run : *group) {
      const bool other_view = group == &tail_ && &run != &tail_[static_cast<std::size_t>(view)];
      if (run.rows() == 0 || other_view) continue;
      read.push_back(&run);
      if (group == &pinned_)
        pinned_end = std::max(pinned_end, run.positions().back() + 1);
      else
        others_begin = std::min(others_begin, run.positions().front());
    }
  const Pos gap = renumbers && pinned_end > 0 && others_begin < everything ? others_begin - pinned_end : 0;
  const auto is_pinned = [&](const Run* run) { return run >= pinned_.data() && run < pinned_.data() + pinned_.size(); };
  segments_.clear();
  for (int head = 0; head < shape_.kv_heads; ++head)
    for (const Run* run : read)
      for (const RowRange part : run->parts())
        segments_.push_back(run->segment(head, view, part, is_pinned(run) ? gap : 0));
  heads_.clear();
  const std::size_t each = segments_.size() / static_cast<std::size_t>(shape_.kv_heads);
  for (std::size_t head = 0; head < static_cast<std::size_t>(shape_.kv_heads); ++head)
    heads_.push_back(std::span<const Segment>(segments_).subspan(head * each, each));
  return heads_;
}

Slot::Listed Slot::list() const {
  Listed all;
  const auto columns = static_cast<std::size_t>(mass_columns());
  std::vector<const Run*> listed = runs();
  if (is_pair()) listed.pop_back();  // the layers' tails hold the same tokens
  all.pos.reserve(rows());
  all.mass.reserve(rows() * columns);
  for (const Run* run : listed)
    run->each_living([&](std::uint32_t first, std::uint32_t last) {
      const std::span<const Pos> pos = run->positions();
      const std::span<const float> mass = run->mass();
      all.pos.insert(all.pos.end(), pos.begin() + first, pos.begin() + last);
      all.mass.insert(all.mass.end(), mass.begin() + static_cast<std::ptrdiff_t>(first * columns),
                      mass.begin() + static_cast<std::ptrdiff_t>(last * columns));
    });
  if (std::is_sorted(all.pos.begin(), all.pos.end())) return all;
  std::vector<std::size_t> order(all.pos.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return all.pos[a] < all.pos[b]; });
  Listed sorted;
  for (const std::size_t row : order) {
    sorted.pos.push_back(all.pos[row]);
    for (std::size_t c = 0; c < columns; ++c) sorted.mass.push_back(all.mass[row * columns + c]);
  }
  return sorted;
}

std::optional<std::vector<Pos>> Slot::fade(HeadRows rows, const Fade& fade) {
  if (is_pair() || window_ > 0 || pinned_[0].rows() > 0) return std::nullopt;
  rows.pos = rows_[0].positions();
  rows.mass = rows_[0].mass();
  return fading_.step(rows_[0], rows, fade);
}

// Calls fn(x) with each living row as float32: none where the pool only counts.
template <class Fn>
void Slot::each_row(const BlockPool& pool, RowKind kind, Fn fn) const {
  assert(!is_pair() && heads() == 1);
  if (pool.counts_only()) return;
  std::vector<float> x(static_cast<std::size_t>(shape_.head_dim));
  for (const Run* run : runs())
    run->each_living([&](std::uint32_t first, std::uint32_t last) {
      for (std::uint32_t row = first; row < last; ++row) {
        run->read(pool, row, kind, 0, x.data());
        fn(x);
      }
    });
}

std::vector<float> Slot::norms(const BlockPool& pool, RowKind kind) const {
  std::vector<float> norms;
  each_row(pool, kind, [&](const std::vector<float>& x) {
    norms.push_back(std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0F)));
  });
  return norms;
}

std::vector<float> Slot::keys(const BlockPool& pool) const {
  std::vector<float> keys;
  each_row(pool, RowKind::kKey, [&](const std::vector<float>& x) { keys.insert(keys.end(), x.begin(), x.end()); });
  return keys;
}

std::size_t Slot::rows() const {
  std::size_t rows = is_pair() ? tail_[0].live() : 0;
  for (const auto* group : {&pinned_, &rows_})
    for (const Run& run : *group) rows += run.live();
  return rows;
}

void Slot::drop_before(BlockPool& pool, Pos pos) {
  for (Run* run : runs()) run->drop_front(pool, rows_before(*run, pos));
}

void Slot::drop_from(BlockPool& pool, Pos pos) {
  for (Run* run : runs()) run->drop_back(pool, run->rows() - rows_before(*run, pos));
}

void Slot::drop(BlockPool& pool, std::span<const Pos> dropped) {
  std::vector<std::uint32_t> rows;
  for (Run* run : runs()) {
    rows.clear();
    const std::span<const Pos> pos = run->positions();
    auto at = pos.begin();
    for (const Pos gone : dropped) {
      at = std::lower_bound(at, pos.end(), gone);
      if (at != pos.end() && *at == gone) rows.push_back(static_cast<std::uint32_t>(at - pos.begin()));
    }
    run->drop(pool, rows);
  }
  for (Run& tail : tail_) tail.close_ranks(pool);  // merging goes row by row
}

// Once rows between the sinks and the rest go, the sinks become runs of their own: then the rest only ever loses rows
// at its front, and the gap is one number.
void Slot::pin(BlockPool& pool, Pos end) {
  for (std::size_t kind = 0; kind < pinned_.size(); ++kind) {
    const std::uint32_t n = rows_before(rows_[kind], end);
    if (n == 0) continue;
    pinned_[kind].append_encoded(pool, rows_[kind], n);
    rows_[kind].drop_front(pool, n);
  }
}

std::size_t Slot::encode(BlockPool& pool, bool chosen) {
  std::size_t bytes = 0;
  for (Run& run : rows_) {
    if (formats_.kivi) run.close_ranks(pool);  // no group has room for rows that nobody sees
    const bool waits = run.layout().k.waits() && run.layout().v.waits();
    if (formats_.kivi && waits && run.encoded(RowKind::kKey) + run.encoded(RowKind::kValue) == 0 &&
        (chosen || formats_.kivi.encoded_values(run.rows()) + formats_.kivi.encoded_keys(run.rows()) > 0))
      run.to_front(pool);
    for (const RowKind kind : {RowKind::kKey, RowKind::kValue})
      bytes += run.encode(pool, kind, rows_to_encode(run, kind));
  }
  return bytes;
}

// How many of a run's first rows are to be encoded. KIVI counts them from the run's row 0, so that a group that the
// front of a window has entered stays one.
std::uint32_t Slot::rows_to_encode(const Run& run, RowKind kind) const {
  if (!run.layout().of(kind).waits()) return 0;
  if (formats_.kivi) {
    const std::uint32_t last = run.first() + run.rows();
    const std::uint32_t end =
        kind == RowKind::kKey ? formats_.kivi.encoded_keys(last) : formats_.kivi.encoded_values(last);
    return end > run.first() ? end - run.first() : 0;
  }
  // others: a tile at a time, once two tiles wait, so that 16 to 31 stay exact
  const std::uint32_t encoded = run.living_before(run.encoded(kind)), waiting = run.live() - encoded;
  if (waiting < 2 * kTileRows) return run.encoded(kind);
  return run.rows_with(encoded + (waiting - kTileRows) / kTileRows * kTileRows);
}

void Slot::clear(BlockPool& pool) {
  for (Run* run : runs()) run->clear(pool);
}

void Slot::share(BlockPool& pool) const {
  for (const Run* run : runs()) run->share(pool);
}

KvBytes Slot::bytes(const BlockPool& pool) const {
  KvBytes bytes;
  for (const Run* run : runs()) bytes += run->bytes(pool);
  bytes.slack += fading_.bytes();
  for (const std::vector<float>& sums : staged_.sums) bytes.mass += sums.capacity() * sizeof(float);
  return bytes;
}

std::string Slot::why_not_truncate(Pos length) const {
  if (is_pair() && rows() > tail_[0].rows()) return "it has merged rows by what the longer text needed";
  const Run &pinned = pinned_[0], &run = rows_[0];
  for (const RowKind kind : {RowKind::kKey, RowKind::kValue}) {
    const std::uint32_t encoded = run.layout().of(kind).waits() ? run.encoded(kind) : 0;
    if (encoded == 0) continue;
    const std::uint32_t left = run.first() + rows_before(run, length), end = run.first() + encoded;
    const bool was_exact = !formats_.kivi ? length < run.positions()[encoded - 1] + 1 + static_cast<Pos>(kTileRows)
                           : kind == RowKind::kKey ? end > formats_.kivi.encoded_keys(left)
                                                   : end > formats_.kivi.encoded_values(left);
    if (was_exact) return "it has encoded rows that were still exact at that length";
  }
  const Run& first = pinned.rows() > 0 ? pinned : run;
  if (window_ > 0 && first.rows() > 0 && first.positions().front() > std::max(0, length - window_ + 1))
    return fmt::format("sliding-window layers ({} tokens) have freed rows that the shorter text still had", window_);
  return {};
}

}  // namespace lamina
