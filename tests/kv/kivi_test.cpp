// SPDX-License-Identifier: Apache-2.0
// KIVI against the numeric cases of its spec (T18, R12), and its rows in a sequence.
#include "kv/bits/kivi.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>

#include "kernels/attend.h"
#include "kv/expect_error.h"
#include "kv/sequence.h"
#include "stored_rows.h"

namespace lamina {
namespace {

constexpr int kDim = 20;  // no group divides it

KvShape shape() { return {.layers = 1, .kv_heads = 2, .head_dim = kDim, .windows = {0}}; }

std::shared_ptr<const KvSpec> spec(const std::string& text) {
  return std::make_shared<KvSpec>(KvSpec::parse(text, shape()));
}

TEST(Kivi, CodesOfTheSpecsFourNumbers) {
  const std::vector<float> x = {-1, -0.2F, 0.1F, 2};
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const auto& [limit, want, back] :
         {std::tuple{3, std::vector<int>{0, 1, 1, 3}, std::vector<double>{-1, 0, 0, 2}},
          {15, {0, 4, 6, 15}, {-1, -0.2, 0.2, 2}}}) {
      std::int8_t codes[16];
      std::uint16_t scale = 0, least = 0;
      attend_kernels(isa).quantise_asym(x.data(), 4, limit, codes, &scale, &least);
      for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(codes[i], want[i]) << name(isa) << " " << i;
        EXPECT_NEAR(f32_from_f16(scale) * static_cast<float>(codes[i]) + f32_from_f16(least), back[i], 2e-3);
      }
    }
  }
}

TEST(Kivi, AGroupOfOneNumberHasCodesOfZero) {
  const std::vector<float> x(32, 0.75F);
  std::int8_t codes[32];
  std::uint16_t scale = 1, least = 0;
  attend_kernels(chosen_isa()).quantise_asym(x.data(), 32, 15, codes, &scale, &least);
  EXPECT_EQ(scale, 0);
  EXPECT_EQ(f32_from_f16(least), 0.75F);
  for (const int code : codes) EXPECT_EQ(code, 0);
}

TEST(Kivi, BookkeepingOfTheSpec) {
  const Kivi block{.bits = 2}, window{.bits = 2, .window = true};
  struct Row {
    std::uint32_t rows, keys, values, window_keys;
  };
  for (const Row& row :
       {Row{100, 0, 0, 0}, {128, 128, 0, 0}, {200, 128, 72, 64}, {256, 256, 128, 128}, {300, 256, 172, 160}}) {
    EXPECT_EQ(block.encoded_keys(row.rows), row.keys) << row.rows;
    EXPECT_EQ(block.encoded_values(row.rows), row.values) << row.rows;
    EXPECT_EQ(window.encoded_keys(row.rows), row.window_keys) << row.rows;
    EXPECT_EQ(window.encoded_values(row.rows), row.values) << row.rows;
  }
}

TEST(Kivi, SpecText) {
  for (const char* text : {"kivi4", "kivi2", "kivi4(group=64)", "kivi2(group=128,residual=256,bookkeeping=window)"})
    EXPECT_EQ(spec(text)->text(), text);
  EXPECT_EQ(spec("kivi4(group=32,residual=128,bookkeeping=block)")->text(), "kivi4");
  EXPECT_EQ(spec("bits(0=kivi4(group=64))")->text(), "kivi4(group=64)");
  EXPECT_ERROR(spec("kivi4(group=48)"), "group");
  EXPECT_ERROR(spec("kivi4(group=64,residual=96)"), "residual of kivi4 is 96, expected a multiple of its group of 64");
  EXPECT_ERROR(spec("kivi4(residual=0)"), "residual");
  EXPECT_ERROR(spec("kivi4(bits=3)"), "bits");
  EXPECT_ERROR(spec("h2o + kivi4"), "h2o drops rows from among encoded ones, but keys of kivi4 share scales");
  EXPECT_ERROR(spec("fastgen + kivi2"), "share scales");
  EXPECT_EQ(spec("streaming(window=99) + kivi4 + grid(16)")->text(), "streaming(window=99) + kivi4 + grid(16)");
}

// One layer's rows, and the same in plain vectors.
struct Rows {
  explicit Rows(const std::string& text)
      : pool(shape(), most_bytes(shape(), 2000), Format::kF16),
        kv(spec(text), shape(), pool),
        kivi((*spec(text))[SlotId{0}].kivi) {}
  void add(int tokens, Phase phase) {
    std::vector<float> k = random_floats(random, area(tokens, 2 * kDim)), v = random_floats(random, k.size());
    for (std::size_t i = 0; i < k.size(); i += 3) k[i] *= 8;  // channels of other sizes
    kv.append(LayerId{0}, kv.length(), tokens, k.data(), v.data());
    kv.commit(phase, tokens);
    keys.insert(keys.end(), k.begin(), k.end());
    values.insert(values.end(), v.begin(), v.end());
  }
  double at(RowKind kind, Pos pos, int head, int c) const {
    return (kind == RowKind::kKey ? keys
                                  : values)[area(pos, 2 * kDim) + area(head, kDim) + static_cast<std::size_t>(c)];
  }
  // The most that a code may be off: half a step of the group's range, and what f16 rounds.
  double bound(RowKind kind, Pos pos, int head, int c) const {
    double low = INFINITY, high = -INFINITY;
    const auto group = static_cast<Pos>(kivi.group);
    for (int i = 0; i < (kind == RowKind::kKey ? group : kDim); ++i) {
      const double x = kind == RowKind::kKey ? at(kind, pos / group * group + i, head, c) : at(kind, pos, head, i);
      low = std::min(low, x), high = std::max(high, x);
    }
    return (high - low) / ((1 << kivi.bits) - 1) / 2 + 2e-3 * std::max(std::fabs(low), std::fabs(high));
  }

  std::mt19937 random{5};
  BlockPool pool;
  KvSequence kv;
  Kivi kivi;
  std::vector<float> keys, values;
};

// Every row that a layer reads is the row that was appended, exact or within its step, in the numbers of the spec.
void expect_rows(Rows& rows) {
  std::uint32_t seen = 0, encoded_keys = 0, encoded_values = 0;
  const auto heads = rows.kv.segments(LayerId{0});
  for (int head = 0; head < 2; ++head)
    for (const Segment& s : heads[static_cast<std::size_t>(head)])
      for (std::uint32_t row = s.first; row < s.last; ++row) {
        const Pos pos = s.pos[row - s.first];
        for (const RowKind kind : {RowKind::kKey, RowKind::kValue}) {
          const bool key = kind == RowKind::kKey;
          const Format format = key ? s.k_format : s.v_format;
          const RowPlanes planes{
              rows.kv.memory(), kind, format, kDim, key ? s.k_codes : s.v_codes, key ? s.k_scales : s.v_scales};
          std::vector<float> x(kDim);
          read_row(planes, row, x.data());
          if (has_scales(format)) ++(key ? encoded_keys : encoded_values);
          for (int c = 0; c < kDim; ++c) {
            const double want = rows.at(kind, pos, head, c);
            ASSERT_NEAR(x[static_cast<std::size_t>(c)], want,
                        has_scales(format) ? rows.bound(kind, pos, head, c) : std::fabs(want) * 0x1p-11)
                << pos << " of " << rows.kv.length() << " key " << key;
          }
        }
        ++seen;
      }
  const auto length = static_cast<std::uint32_t>(rows.kv.length());
  EXPECT_EQ(seen, 2 * length);
  EXPECT_EQ(encoded_keys, 2 * rows.kivi.encoded_keys(length));
  EXPECT_EQ(encoded_values, 2 * rows.kivi.encoded_values(length));
}

TEST(Kivi, RowsOfASequence) {
  for (const char* text : {"kivi4", "kivi2(group=64)", "kivi4(group=128,residual=256)", "kivi2(bookkeeping=window)"}) {
    Rows rows(text);
    rows.add(100, Phase::kPrompt);
    rows.add(201, Phase::kPromptEnd);
    expect_rows(rows);
    for (int i = 0; i < 260; ++i) {
      rows.add(1, Phase::kDecode);
      if (i % 37 == 0 || i > 250) expect_rows(rows);
    }
    EXPECT_EQ(rows.kv.bytes().total(), plan_kv(spec(text), shape(), 301, 260, 100).steady.total());
  }
}

// The codes of a group come from its rows alone: appended one by one they are those of a prompt.
TEST(Kivi, DecodedRowsAreThoseOfAPrompt) {
  Rows slow("kivi4"), fast("kivi4");
  slow.add(1, Phase::kPromptEnd);
  for (int i = 1; i < 300; ++i) slow.add(1, Phase::kDecode);
  std::vector<float> k = slow.keys, v = slow.values;
  fast.kv.append(LayerId{0}, 0, 300, k.data(), v.data());
  fast.kv.commit(Phase::kPromptEnd, 300);
  fast.keys = k, fast.values = v;
  expect_rows(slow);
  expect_rows(fast);
  const auto read = [](Rows& rows, std::uint32_t row) {
    const Segment& s = rows.kv.segments(LayerId{0})[1].front();
    std::vector<float> x(kDim);
    read_row({rows.kv.memory(), RowKind::kKey, s.k_format, kDim, s.k_codes, s.k_scales}, row, x.data());
    return x;
  };
  for (const std::uint32_t row : {0U, 31U, 127U}) EXPECT_EQ(read(slow, row), read(fast, row));
}

TEST(Kivi, GoesBackWhereRowsAreStillExact) {
  Rows rows("kivi4");
  rows.add(200, Phase::kPromptEnd);  // 128 keys and 72 values are encoded
  EXPECT_ERROR(rows.kv.truncate(199), "encoded rows");
  Rows early("kivi4");
  early.add(90, Phase::kPromptEnd);
  early.kv.truncate(40);
  EXPECT_EQ(early.kv.length(), 40);
}

// Where a policy drops the first rows, those that stay are counted from the first of them: as many are encoded as
// `plan` says, which cannot know which they are.
TEST(Kivi, RowsAreCountedFromTheFirstThatIsKept) {
  for (const char* text : {"random(keep=300,seed=3) + kivi4", "random(keep=300,seed=4) + kivi2(bookkeeping=window)"}) {
    Rows rows(text);
    rows.add(500, Phase::kPromptEnd);
    for (int i = 0; i < 40; ++i) rows.add(1, Phase::kDecode);
    for (const auto& head : rows.kv.segments(LayerId{0})) {
      std::uint32_t held = 0, keys = 0, values = 0;
      for (const Segment& s : head) {
        held += s.rows();
        keys += has_scales(s.k_format) ? s.rows() : 0;
        values += has_scales(s.v_format) ? s.rows() : 0;
      }
      EXPECT_EQ(held, 340U);
      EXPECT_EQ(keys, rows.kivi.encoded_keys(340)) << text;
      EXPECT_EQ(values, rows.kivi.encoded_values(340)) << text;
    }
    EXPECT_EQ(rows.kv.bytes().rows, plan_kv(spec(text), shape(), 500, 40, 500).steady.rows);
  }
  // Also where at first there are too few of them to encode any.
  Rows few("random(keep=100,seed=3) + kivi4");
  few.add(500, Phase::kPromptEnd);
  for (int i = 0; i < 27; ++i) few.add(1, Phase::kDecode);
  for (const auto& head : few.kv.segments(LayerId{0}))
    for (const Segment& s : head) EXPECT_FALSE(has_scales(s.k_format) || has_scales(s.v_format));
  few.add(1, Phase::kDecode);  // the 128th
  for (const auto& head : few.kv.segments(LayerId{0}))
    for (const Segment& s : head) EXPECT_TRUE(has_scales(s.k_format) && !has_scales(s.v_format)) << s.rows();
}

// Sinks stay exact, in a run of their own; the others' groups keep their places as the window moves on.
TEST(Kivi, UnderAWindow) {
  Rows rows("streaming(window=150) + kivi4");
  rows.add(120, Phase::kPromptEnd);
  for (int i = 0; i < 300; ++i) rows.add(1, Phase::kDecode);
  std::size_t seen = 0;
  for (const Segment& s : rows.kv.segments(LayerId{0})[0])
    for (std::uint32_t row = s.first; row < s.last; ++row, ++seen) {
      const Pos pos = s.pos[row - s.first];
      std::vector<float> x(kDim);
      read_row({rows.kv.memory(), RowKind::kKey, s.k_format, kDim, s.k_codes, s.k_scales}, row, x.data());
      EXPECT_EQ(has_scales(s.k_format), pos >= 4 && pos < 384) << pos;
      for (int c = 0; c < kDim; ++c) {
        const double want = rows.at(RowKind::kKey, pos, 0, c);
        // a group is cut by the sinks at its front, by the window nowhere: it was whole when it was encoded
        ASSERT_NEAR(x[static_cast<std::size_t>(c)], want, rows.bound(RowKind::kKey, pos, 0, c)) << pos;
      }
    }
  EXPECT_EQ(seen, 4U + 149U);
}

}  // namespace
}  // namespace lamina
