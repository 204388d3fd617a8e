// SPDX-License-Identifier: Apache-2.0
#include "attention/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attention/random_sequence.h"
#include "reference.h"
#include "stored_rows.h"

namespace lamina {
namespace {

// Float formats: float32 sums. Integer formats on the decode path: a query has 15 bits; a weight times scale is off by
// up to 1/32258 of the largest of its 64 rows, each error times a code of up to 127: 1e-4 of the largest value for one
// row, and a few rows add up.
double tolerance(Format k, Format v) { return has_scales(k) || has_scales(v) ? 5e-4 : 1e-5; }

double worst_error(const Case& c, Isa isa = chosen_isa(), int threads = 1) {
  BlockArena arena = arena_of(c);
  Sequence sequence(c, arena);
  Rope rope(rope_of(c));
  rope.reserve(2500);
  ThreadPool pool(threads);
  AttentionScratch scratch(attend_kernels(isa));
  const Query query = sequence.query();
  attend(pool, arena.memory(), shape_of(c), rope, {&query, 1}, scratch);
  return sequence.worst(arena.memory(), shape_of(c), rope_of(c));
}

TEST(Attention, EveryPairOfFormatsOnEveryInstructionSet) {
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const Format k : formats_of(RowKind::kKey))
      for (const Format v : formats_of(RowKind::kValue))
        for (const int tokens : {1, 33})
          EXPECT_LE(worst_error({.k = k, .v = v, .tokens = tokens, .runs = {{75, 21}}}, isa), tolerance(k, v))
              << name(isa) << " k " << static_cast<int>(k) << " v " << static_cast<int>(v) << " tokens " << tokens;
  }
}

TEST(Attention, OddNumbersOfRowsAndQueries) {
  for (const Format format : {Format::kF32, Format::kInt8, Format::kInt4})
    for (const int rows : {0, 1, 15, 16, 17, 31, 32, 33, 500, 1100})
      for (const int tokens : {1, 2, 7, 33})
        EXPECT_LE(worst_error({.k = format, .v = format, .tokens = tokens, .runs = {{rows}}}),
                  tolerance(format, format))
            << rows << " rows " << tokens << " tokens, format " << static_cast<int>(format);
}

TEST(Attention, HeadDimsAndGroups) {
  for (const Format format : {Format::kF32, Format::kF16, Format::kInt8, Format::kInt4})
    for (const int d : {8, 16, 20, 64, 80, 128, 256})
      for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {9, 3}, {4, 1}, {9, 1}, {16, 1}})
        for (const int tokens : {1, 30})
          EXPECT_LE(worst_error({.k = format,
                                 .v = format,
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .head_dim = d,
                                 .tokens = tokens,
                                 .runs = {{50}}}),
                    tolerance(format, format))
              << "d " << d << " heads " << heads << "/" << kv_heads << " tokens " << tokens;
}

TEST(Attention, SegmentsWithShiftsGainsAndRaggedEnds) {
  const std::vector<RunRows> runs{{4, 0, 30}, {90, 37, 0, true}, {0, 0}, {33, 15, -2}, {1, 31}, {40, 0, 5, true}};
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const Format format : formats_of(RowKind::kValue))
      for (const int tokens : {1, 5, 40})
        EXPECT_LE(worst_error({.k = format, .v = format, .tokens = tokens, .runs = runs, .gap = 2}, isa),
                  2 * tolerance(format, format))  // gains up to 2
            << name(isa) << " format " << static_cast<int>(format) << " tokens " << tokens;
  }
}

TEST(Attention, DeadRowsAreSeenByNobody) {
  const std::vector<RunRows> runs{{1, 5, 0, false, true},    {20, 3, 40, false, true},
                                  {540, 37, 0, true, true},  {60},
                                  {33, 15, -2, false, true}, {20, 1}};
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const Format format : formats_of(RowKind::kValue))
      for (const int tokens : {1, 7, 30}) {
        const Pos window = tokens == 7 ? 90 : 0;
        EXPECT_LE(
            worst_error({.k = format, .v = format, .tokens = tokens, .runs = runs, .window = window, .gap = 2}, isa),
            2 * tolerance(format, format))
            << name(isa) << " format " << static_cast<int>(format) << " tokens " << tokens;
      }
  }
}

TEST(Attention, WindowsLagAndEmptySets) {
  for (const Format format : {Format::kF32, Format::kInt8})
    for (const int tokens : {1, 7, 60})
      for (const Pos window : {0, 1, 20, 333})
        for (const bool lagged : {false, true})
          for (const int behind : {0, 150, 1000}) {
            const Case c{.k = format,
                         .v = format,
                         .tokens = tokens,
                         .runs = {{8}, {600, 3}, {17}},
                         .window = window,
                         .lagged = lagged,
                         .gap = tokens == 7 ? 3 : 1,
                         .behind = behind};
            EXPECT_LE(worst_error(c), tolerance(format, format))
                << "tokens " << tokens << " window " << window << " lagged " << lagged << " behind " << behind;
          }
}

// To the bit for float rows, so that the cut of a text into steps changes nothing: over several partitions, with a
// window that begins in the middle of one.
TEST(Attention, PromptPathEqualsDecodePath) {
  for (const Format format : formats_of(RowKind::kValue)) {
    const Case c{.k = format, .v = format, .tokens = 40, .runs = {{1300, 5, 0, false, true}, {20}}, .window = 1100};
    BlockArena arena = arena_of(c);
    Sequence sequence(c, arena);
    Rope rope(rope_of(c));
    rope.reserve(2000);
    ThreadPool pool(1);
    AttentionScratch scratch;
    Query query = sequence.query();
    attend(pool, arena.memory(), shape_of(c), rope, {&query, 1}, scratch);
    const std::vector<float> prompt = sequence.out();
    const int row = c.heads * c.head_dim;
    for (int t = 0; t < c.tokens; ++t) {
      const Query one{query.q + t * row, query.pos.subspan(t, 1), query.segments, query.out + t * row, query.sees};
      attend(pool, arena.memory(), shape_of(c), rope, {&one, 1}, scratch);
    }
    for (std::size_t i = 0; i < prompt.size(); ++i)
      ASSERT_NEAR(prompt[i], sequence.out()[i], has_scales(format) ? tolerance(format, format) : 0);
  }
}

TEST(Attention, SameBitsForAnyThreadsAndAnyCompany) {
  for (const Format format : {Format::kF16, Format::kInt8, Format::kInt4}) {
    const Case decode{.k = format, .v = format, .heads = 9, .kv_heads = 3, .runs = {{1500, 9}, {30}}};
    Case prompt = decode, few = decode;
    prompt.tokens = 70, prompt.seed = 2, few.tokens = 2, few.seed = 3;
    BlockArena arena = arena_of(decode, 3);
    Sequence a(decode, arena), b(prompt, arena), c(few, arena);
    Rope rope(rope_of(decode));
    rope.reserve(2000);
    AttentionScratch scratch;
    std::vector<std::vector<float>> alone;
    for (Sequence* s : {&a, &b, &c}) {
      ThreadPool pool(1);
      const Query query = s->query();
      attend(pool, arena.memory(), shape_of(decode), rope, {&query, 1}, scratch);
      alone.push_back(s->out());
    }
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      const Query queries[] = {c.query(), a.query(), b.query()};
      attend(pool, arena.memory(), shape_of(decode), rope, queries, scratch);
      EXPECT_EQ(a.out(), alone[0]) << threads;
      EXPECT_EQ(b.out(), alone[1]) << threads;
      EXPECT_EQ(c.out(), alone[2]) << threads;
    }
  }
}

// ---- the arithmetic that the design rests on
// --------------------------------------------------------------------------

class Design : public testing::Test {
 protected:
  static constexpr int kDim = 64;
  std::vector<float> attend_one(std::span<const Segment> segments, std::vector<float>& q, Pos pos) {
    std::vector<float> out(kDim);
    const std::span<const Segment> heads[] = {segments};
    const Query query{q.data(), {&pos, 1}, heads, out.data()};
    attend(pool_, arena_.memory(), shape_, rope_, {&query, 1}, scratch_);
    return out;
  }
  void SetUp() override { rope_.reserve(1000); }
  static void expect_near(const std::vector<float>& a, const std::vector<double>& b, double tolerance) {
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance);
  }
  std::mt19937 random_{7};
  BlockArena arena_{8192, 200};
  AttentionShape shape_{1, 1, kDim, 0.125F};
  RopeConfig config_{.dims = kDim};
  Rope rope_{config_};
  ThreadPool pool_{1};
  AttentionScratch scratch_;
};

std::vector<Pos> positions(int first, int n) {
  std::vector<Pos> pos(static_cast<std::size_t>(n));
  std::iota(pos.begin(), pos.end(), first);
  return pos;
}

TEST_F(Design, Int8BodyAndF32TailAreOneSoftmax) {
  const Segment segments[] = {
      store_rows(arena_, {.k = Format::kInt8, .v = Format::kInt8}, random_floats(random_, 150 * kDim),
                 random_floats(random_, 150 * kDim), positions(0, 150)),
      store_rows(arena_, {}, random_floats(random_, 50 * kDim), random_floats(random_, 50 * kDim), positions(150, 50))};
  std::vector<float> q = random_floats(random_, kDim);
  const auto want = reference::attend(arena_.memory(), shape_, config_, q, 199, segments);
  expect_near(attend_one(segments, q, 199), want.out, tolerance(Format::kInt8, Format::kInt8));
  double mass = 0;
  for (const double m : want.mass) mass += m;
  EXPECT_NEAR(mass, 1, 1e-12);
}

// Two layers' rows share a direction and differ in length: direction in int8, length as a gain; rows that point apart
// are private. The shared segment must equal rows that were scaled before they were stored.
TEST_F(Design, GainsAndAPrivateRunRebuildAMergedPair) {
  const int shared = 90, apart = 10;
  std::vector<float> k = random_floats(random_, shared * kDim), v = random_floats(random_, shared * kDim);
  RunOptions merged{.k = Format::kInt8, .v = Format::kInt8};
  for (int r = 0; r < shared; ++r) {
    merged.k_gains.push_back(f32_from_f16(f16_from_f32(0.5F + 0.02F * r)));
    merged.v_gains.push_back(f32_from_f16(f16_from_f32(2.0F - 0.01F * r)));
  }
  const std::vector<float> kp = random_floats(random_, apart * kDim), vp = random_floats(random_, apart * kDim);
  const Segment pair[] = {store_rows(arena_, merged, k, v, positions(0, shared)),
                          store_rows(arena_, {}, kp, vp, positions(shared, apart))};
  for (int i = 0; i < shared; ++i) {
    const auto key = reference::row_of(arena_.memory(), RowKind::kKey, pair[0], kDim, i);
    const auto value = reference::row_of(arena_.memory(), RowKind::kValue, pair[0], kDim, i);
    for (int c = 0; c < kDim; ++c) {
      k[i * kDim + c] = static_cast<float>(key[c] * merged.k_gains[i]);
      v[i * kDim + c] = static_cast<float>(value[c] * merged.v_gains[i]);
    }
  }
  const Segment rebuilt[] = {store_rows(arena_, {}, k, v, positions(0, shared)), pair[1]};
  std::vector<float> q = random_floats(random_, kDim);
  const auto want = reference::attend(arena_.memory(), shape_, config_, q, 99, rebuilt);
  expect_near(attend_one(pair, q, 99), want.out, 2 * tolerance(Format::kInt8, Format::kInt8));
}

// StreamingLLM: 4 sinks and a window of 60 of 300 rows. A shifted query on the sinks equals keys that were rotated for
// their places in the cache.
TEST_F(Design, ShiftIsReNumbering) {
  const int sinks = 4, n = 300, window = 60;
  const std::vector<float> k = random_floats(random_, n * kDim), v = random_floats(random_, n * kDim);
  const auto rotated_rows = [&](int first, int count, Pos start) {
    std::vector<float> rows(k.begin() + first * kDim, k.begin() + (first + count) * kDim);
    for (int i = 0; i < count; ++i) rope_.rotate(rows.data() + i * kDim, start + i);
    return rows;
  };
  const auto values = [&](int first, int count) {
    return std::vector<float>(v.begin() + first * kDim, v.begin() + (first + count) * kDim);
  };
  const Segment streaming[] = {store_rows(arena_, {.shift = n - window - sinks}, rotated_rows(0, sinks, 0),
                                          values(0, sinks), positions(0, sinks)),
                               store_rows(arena_, {}, rotated_rows(n - window, window, n - window),
                                          values(n - window, window), positions(n - window, window))};
  std::vector<float> all = rotated_rows(0, sinks, 0), late = rotated_rows(n - window, window, sinks);
  all.insert(all.end(), late.begin(), late.end());
  std::vector<float> kept = values(0, sinks), kept_late = values(n - window, window);
  kept.insert(kept.end(), kept_late.begin(), kept_late.end());
  const Segment renumbered[] = {store_rows(arena_, {}, all, kept, positions(0, sinks + window))};
  std::vector<float> q = random_floats(random_, kDim);
  const auto want = reference::attend(arena_.memory(), shape_, config_, q, sinks + window - 1, renumbered);
  expect_near(attend_one(streaming, q, n - 1), want.out, 1e-5);
}

}  // namespace
}  // namespace lamina
