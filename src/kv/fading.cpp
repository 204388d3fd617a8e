// SPDX-License-Identifier: Apache-2.0
#include "kv/fading.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace lamina {
namespace {

// Rows up to the bound when it is found, and the most before it is found anew: a look at all rows every 30 steps or so.
constexpr std::size_t kLow = 32, kMostLow = 128;

bool has_newest(const Run& run, Pos newest) {
  const auto n = static_cast<std::uint32_t>(newest);
  if (run.rows() < n || run.positions()[run.rows() - n] != run.positions().back() - newest + 1) return false;
  return run.living_before(run.rows() - n) + n == run.live();
}

}  // namespace

std::optional<std::vector<Pos>> Fading::step(const Run& run, const HeadRows& rows, const Fade& fade) {
  if (run.rows() == 0) return std::vector<Pos>();
  if (fade.newest > 0 && !has_newest(run, fade.newest)) return std::nullopt;
  Held held = fade.held;
  const Pos last = rows.pos.back();
  if (fade.newest > 0) held.local = std::min(held.local, last - fade.newest + 1);
  const bool spares = fade.budget > 0;  // the newest, in its own step
  const std::size_t spared = spares && !held.holds(rows, rows.pos.size() - 1) ? 1 : 0;
  look(run, rows, held, std::min(held.local, spares ? last : last + 1));
  const std::size_t others = judged_ + spared;
  std::size_t dropped = std::min(judged_, others - std::min(others, fade.budget));
  std::vector<Pos> gone;
  for (; dropped > 0; --dropped, --judged_) {
    std::optional<Pos> pos = low_.size() <= kMostLow ? take_lowest(rows) : std::nullopt;
    if (!pos) {
      refill(run, rows, held, gone);
      pos = take_lowest(rows);
    }
    assert(pos);
    gone.push_back(*pos);
  }
  std::ranges::sort(gone);
  return gone;
}

// The rows from judged_end_ to `end` are judged from now on.
void Fading::look(const Run& run, const HeadRows& rows, const Held& held, Pos end) {
  if (end <= judged_end_) return;
  const auto at = [&](Pos pos) {
    return static_cast<std::size_t>(std::ranges::lower_bound(rows.pos, pos) - rows.pos.begin());
  };
  for (std::size_t row = at(judged_end_), last = at(end); row < last; ++row) {
    if (run.is_dead(static_cast<std::uint32_t>(row)) || held.holds(rows, row)) continue;
    ++judged_;
    if (Rank{rows.total(row), rows.pos[row]} <= bound_)
      low_.push_back({rows.pos[row], static_cast<std::uint32_t>(row)});
  }
  judged_end_ = end;
}

// But for those that go in this step already.
void Fading::refill(const Run& run, const HeadRows& rows, const Held& held, const std::vector<Pos>& gone) {
  std::vector<std::pair<Rank, std::uint32_t>> all;
  run.each_living([&](std::uint32_t first, std::uint32_t last) {
    for (std::uint32_t row = first; row < last && rows.pos[row] < judged_end_; ++row)
      if (!held.holds(rows, row) && std::ranges::find(gone, rows.pos[row]) == gone.end())
        all.push_back({{rows.total(row), rows.pos[row]}, row});
  });
  low_.clear();
  if (all.empty()) return;
  const std::size_t count = std::min(kLow, all.size());
  const auto bound = all.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(all.begin(), bound, all.end(), [](const auto& a, const auto& b) { return !(b.first <= a.first); });
  bound_ = bound->first;
  for (std::size_t i = 0; i < count; ++i) low_.push_back({all[i].first.pos, all[i].second});
}

// The next that goes, if it is among the low ones: those above the bound by now are like all others.
std::optional<Pos> Fading::take_lowest(const HeadRows& rows) {
  Rank least = bound_;
  std::size_t kept = 0, lowest = low_.size();
  for (Low low : low_) {
    if (low.row >= rows.pos.size() || rows.pos[low.row] != low.pos)
      low.row = static_cast<std::uint32_t>(std::ranges::lower_bound(rows.pos, low.pos) - rows.pos.begin());
    const Rank rank{rows.total(low.row), low.pos};
    if (!(rank <= bound_)) continue;
    if (rank <= least) lowest = kept, least = rank;
    low_[kept++] = low;
  }
  low_.resize(kept);
  if (lowest >= kept) return std::nullopt;
  low_.erase(low_.begin() + static_cast<std::ptrdiff_t>(lowest));
  return least.pos;
}

}  // namespace lamina
