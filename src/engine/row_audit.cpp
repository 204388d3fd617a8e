// SPDX-License-Identifier: Apache-2.0
#include "engine/row_audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kv/bits/encode.h"

namespace lamina {
namespace {

constexpr RowKind kKinds[] = {RowKind::kKey, RowKind::kValue};
const char* name(RowKind kind) { return kind == RowKind::kKey ? "key" : "value"; }

struct Living {  // a row that someone may still see
  const Segment* segment;
  std::uint32_t row;  // in row coordinates
  Pos pos;

  Format format(RowKind kind) const { return kind == RowKind::kKey ? segment->k_format : segment->v_format; }
  void read(const KvSequence& kv, RowKind kind, std::vector<float>& x) const {
    const bool key = kind == RowKind::kKey;
    x.resize(static_cast<std::size_t>(kv.shape().head_dim));
    read_row({.memory = kv.memory(),
              .kind = kind,
              .format = format(kind),
              .head_dim = kv.shape().head_dim,
              .codes = key ? segment->k_codes : segment->v_codes,
              .scales = key ? segment->k_scales : segment->v_scales},
             row, x.data());
  }
};

bool is_dead(const Segment& segment, std::uint32_t row) {
  return segment.dead != nullptr &&
         (segment.dead[row / kTileRows - segment.first_tile()] >> (row % kTileRows) & 1U) != 0;
}

std::vector<Living> living_rows(std::span<const Segment> segments) {
  std::vector<Living> rows;
  for (const Segment& segment : segments)
    for (std::uint32_t row = segment.first; row < segment.last; ++row)
      if (!is_dead(segment, row)) rows.push_back({&segment, row, segment.pos[row - segment.first]});
  return rows;
}

void note(RowAudit& audit, int layer, std::size_t head, const std::string& what) {
  if (audit.different++ == 0) audit.first = fmt::format("layer {}, KV head {}, {}", layer, head, what);
}

void compare_row(RowAudit& audit, int layer, std::size_t head, const KvSequence& found_kv, const Living& found,
                 const KvSequence& expected_kv, const Living& expected) {
  std::vector<float> a, b;
  audit.rows += std::size(kKinds);
  if (found.pos != expected.pos)
    return note(audit, layer, head, fmt::format("a row stands for position {}, expected {}", found.pos, expected.pos));
  for (const RowKind kind : kKinds) {
    if (found.format(kind) != expected.format(kind)) {
      note(audit, layer, head, fmt::format("position {}: the {} is in another format", found.pos, name(kind)));
      continue;
    }
    found.read(found_kv, kind, a);
    expected.read(expected_kv, kind, b);
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0)
      note(audit, layer, head, fmt::format("position {}: the {} is another one", found.pos, name(kind)));
  }
}

// A head's dense keys, or values, and half of what one step of the codes
// of a format is worth, in a channel of a row, or of all rows where scales are by channel.
class Dense {
 public:
  Dense(const KvSequence& kv, std::span<const Living> rows, RowKind kind)
      : kv_(kv),
        rows_(rows),
        kind_(kind),
        low_(static_cast<std::size_t>(kv.shape().head_dim), INFINITY),
        high_(low_.size(), -INFINITY) {
    std::vector<float> x;
    for (const Living& row : rows) {
      row.read(kv, kind, x);
      for (std::size_t c = 0; c < x.size(); ++c) {
        low_[c] = std::min(low_[c], x[c]);
        high_[c] = std::max(high_[c], x[c]);
      }
    }
  }

  // Whether it has a row of this position.
  bool find(Pos pos, std::vector<float>& x) const {
    const auto row = std::ranges::lower_bound(rows_, pos, {}, &Living::pos);
    if (row == rows_.end() || row->pos != pos) return false;
    row->read(kv_, kind_, x);
    return true;
  }

  float half_step(Format format, const std::vector<float>& row, std::size_t c) const {
    if (!has_scales(format)) return 0;
    const auto steps = static_cast<float>((1 << bits(format)) - 1);
    if (by_channel(format)) return (high_[c] - low_[c]) / steps / 2;
    const auto begin = row.begin() + static_cast<std::ptrdiff_t>(c / kScaleGroup * kScaleGroup);
    const auto end = row.end() - begin > kScaleGroup ? begin + kScaleGroup : row.end();
    const auto [least, most] = std::minmax_element(begin, end);
    if (has_minima(format)) return (*most - *least) / steps / 2;
    return std::max(std::fabs(*least), std::fabs(*most)) / (steps - 1);  // codes of both signs, none for the lowest
  }

 private:
  const KvSequence& kv_;
  std::span<const Living> rows_;
  RowKind kind_;
  std::vector<float> low_, high_;  // [channel]
};

constexpr float kRounding = 0.002F;  // of a row's largest value: the 16-bit floats

// The largest error over what is allowed; infinite where a value is not finite.
float error_of(const std::vector<float>& x, Format format, const Dense& dense, const std::vector<float>& exact) {
  float largest = 0, worst = 0;
  for (const float value : exact) largest = std::max(largest, std::fabs(value));
  for (std::size_t c = 0; c < x.size(); ++c) {
    const float error = std::fabs(x[c] - exact[c]), allowed = dense.half_step(format, exact, c) + kRounding * largest;
    if (error > 0) worst = std::max(worst, error / allowed);
    if (!std::isfinite(error)) return INFINITY;
  }
  return worst;
}

}  // namespace

RowAudit compare_states(KvSequence& found, KvSequence& expected) {
  RowAudit audit;
  for (int layer = 0; layer < found.shape().layers; ++layer) {
    const auto ours = found.segments(LayerId{layer}), theirs = expected.segments(LayerId{layer});
    for (std::size_t head = 0; head < theirs.size(); ++head) {
      const std::vector<Living> a = living_rows(ours[head]), b = living_rows(theirs[head]);
      if (a.size() != b.size()) note(audit, layer, head, fmt::format("{} rows, expected {}", a.size(), b.size()));
      for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
        compare_row(audit, layer, head, found, a[i], expected, b[i]);
    }
  }
  return audit;
}

RowAudit compare_with_dense(KvSequence& found, KvSequence& dense) {
  RowAudit audit;
  std::vector<float> x, exact;
  const auto compare = [&](int layer, std::size_t head, RowKind kind, const Living& row, const Dense& rows) {
    if (!rows.find(row.pos, exact)) return;
    row.read(found, kind, x);
    const float error = error_of(x, row.format(kind), rows, exact);
    ++audit.rows;
    audit.largest_error = std::max<double>(audit.largest_error, error);
    if (error > 1)
      note(audit, layer, head,
           fmt::format("position {}: the {} is off by {:.3g} times what its format may", row.pos, name(kind), error));
  };
  for (int layer = 0; layer < found.shape().layers; ++layer) {
    const auto ours = found.segments(LayerId{layer}), theirs = dense.segments(LayerId{layer});
    for (std::size_t head = 0; head < theirs.size(); ++head) {
      const std::vector<Living> rows = living_rows(ours[head]), all = living_rows(theirs[head]);
      for (const RowKind kind : kKinds) {
        const Dense of(dense, all, kind);
        for (const Living& row : rows) compare(layer, head, kind, row, of);
      }
    }
  }
  return audit;
}

}  // namespace lamina
