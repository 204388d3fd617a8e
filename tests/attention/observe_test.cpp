// SPDX-License-Identifier: Apache-2.0
// What attention measures for token policies, against the eager weights in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "attention/attention.h"
#include "attention/random_sequence.h"

namespace lamina {
namespace {

struct Watched {
  Case c;
  Observe what{.first_query = 0};
  bool decode = false;  // apart, from the weights at hand; else the second pass of a prompt
  Isa isa = chosen_isa();
  int threads = 1;
  std::vector<int> steps{};  // a prompt's cut; empty: at once
};

// What the sums hold already; less than some weights.
float held_before(const Observe& what) { return what.most ? 0.004F : 0.25F; }

std::size_t padded_rows(std::span<const Segment> segments) {
  std::size_t rows = 0;
  for (const Segment& s : segments) rows += s.range().padded();
  return rows;
}

// The sums of one sequence: [kv_head] of [tokens, if apart, else 1][columns][padded rows].
class Measured {
 public:
  explicit Measured(const Watched& w)
      : w_(w), arena_(arena_of(w.c)), sequence_(w.c, arena_), group_(w.c.heads / w.c.kv_heads) {
    Rope rope(rope_of(w.c));
    rope.reserve(2500);
    ThreadPool pool(w.threads);
    AttentionScratch scratch(attend_kernels(w.isa));
    const auto columns = static_cast<std::size_t>(w.what.columns(group_));
    for (int h = 0; h < w.c.kv_heads; ++h)
      sums_.emplace_back(
          (w.decode ? static_cast<std::size_t>(w.c.tokens) : 1) * columns * padded_rows(sequence_.segments(h)),
          held_before(w.what));
    std::vector<float*> mass;
    for (auto& sums : sums_) mass.push_back(sums.data());
    int done = 0;
    for (const int tokens : w.steps.empty() ? std::vector<int>{w.c.tokens} : w.steps) {
      Query query = sequence_.query(done, tokens);
      query.prompt = !w.decode;
      query.observation = {.what = w.what, .mass = mass, .apart = w.decode};
      attend(pool, arena_.memory(), shape_of(w.c), rope, {&query, 1}, scratch);
      done += tokens;
    }
    EXPECT_EQ(done, w.c.tokens);
  }

  const std::vector<std::vector<float>>& sums() const { return sums_; }
  const std::vector<float>& out() const { return sequence_.out(); }

  // The largest difference from eager attention, each over 1 + the sum itself. What no query gave anything holds what
  // it held before, to the bit.
  double worst() {
    double worst = 0;
    const float held = held_before(w_.what);
    for (int h = 0; h < w_.c.kv_heads; ++h) {
      const std::vector<double> want = eager(h);
      EXPECT_EQ(want.size(), sums_[h].size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        const double error = std::fabs(sums_[h][i] - (want[i] + held)) / (1 + want[i]);
        worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        EXPECT_TRUE(want[i] > 0 || sums_[h][i] == held) << sums_[h][i];
      }
    }
    return worst;
  }

 private:
  std::vector<double> eager(int kv_head) {
    const std::span<const Segment> segments = sequence_.segments(kv_head);
    const auto rows = reference::decoded(arena_.memory(), w_.c.head_dim, segments);
    const std::size_t all = padded_rows(segments), columns = static_cast<std::size_t>(w_.what.columns(group_));
    std::vector<std::size_t> at;  // [row of all segments] its place among the padded ones
    std::size_t before = 0;
    for (const Segment& s : segments) {
      for (std::uint32_t row = s.first; row < s.last; ++row) at.push_back(before + row - s.first_tile() * kTileRows);
      before += s.range().padded();
    }
    std::vector<double> sums(sums_[kv_head].size());
    for (int t = 0; t < w_.c.tokens; ++t)
      for (int j = 0; j < group_; ++j) {
        const Query query = sequence_.query(t, 1);
        if (query.pos[0] < w_.what.first_query) continue;
        const std::span<const float> q{query.q + static_cast<std::ptrdiff_t>(kv_head * group_ + j) * w_.c.head_dim,
                                       static_cast<std::size_t>(w_.c.head_dim)};
        const auto eager =
            reference::attend(shape_of(w_.c), rope_of(w_.c), q, query.pos[0], rows, {w_.c.window, w_.c.lagged});
        const double counts = 1 + static_cast<double>(w_.what.slope) * (query.pos[0] - w_.what.first_query);
        for (std::size_t row = 0; row < rows.size(); ++row)
          for (int kind = 0; kind < w_.what.kinds(); ++kind) {
            if (kind == 1 && query.pos[0] - rows[row].pos < w_.what.far) continue;
            const int column = (w_.what.by_query_head ? j : 0) * w_.what.kinds() + kind;
            const std::size_t token = w_.decode ? static_cast<std::size_t>(t) : 0;
            double& sum = sums[(token * columns + static_cast<std::size_t>(column)) * all + at[row]];
            sum = w_.what.most ? std::max(sum, eager.mass[row]) : sum + counts * eager.mass[row];
          }
      }
    if (w_.what.most)
      for (double& x : sums) x = std::max(0.0, x - held_before(w_.what));
    return sums;
  }

  Watched w_;
  BlockArena arena_;
  Sequence sequence_;
  int group_;
  std::vector<std::vector<float>> sums_;
};

// A weight's relative error is its score's absolute one: float32 sums of a head's channels. In decode a query has 15
// bits where keys are codes; in prompts queries and keys have 8 from the 128th row on, but where rows are float32.
double tolerance(const Watched& w) {
  if (w.decode) return has_scales(w.c.k) ? 5e-4 : 1e-5;
  return attend_kernels(w.isa).fast_bytes && w.c.k != Format::kF32 ? 1e-2 : 1e-5;
}

double worst(const Watched& w) { return Measured(w).worst(); }

constexpr std::pair<Format, Format> kFourFormats[] = {{Format::kF32, Format::kF32},
                                                      {Format::kF16, Format::kF16},
                                                      {Format::kInt8, Format::kInt8},
                                                      {Format::kInt4, Format::kInt4}};

constexpr std::pair<Format, Format> kTwoFormats[] = {{Format::kF32, Format::kF32}, {Format::kInt8, Format::kInt4}};

// Runs as a slot of every kind has them, dead rows, gains and a shift among them.
const std::vector<RunRows> kRuns{{5, 2, 30}, {150, 37, 0, true, true}, {0, 0}, {33, 15, -2, false, true}, {70, 9}};

// Later queries of a prompt count more, or less; far sums too.
TEST(Observe, QueriesCountByTheirPosition) {
  for (const float slope : {0.2F / 37, 0.5F, -0.01F})
    for (const Pos far : {0, 7}) {
      const Case c{.heads = 6, .kv_heads = 2, .tokens = 40, .runs = kRuns};
      const Watched w{.c = c, .what = {.first_query = 220, .far = far, .by_query_head = true, .slope = slope}};
      EXPECT_LE(worst(w), tolerance(w)) << slope << " far " << far;
    }
}

TEST(Observe, EveryFormatOnEveryInstructionSet) {
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const auto& [k, v] : kFourFormats)
      for (const bool decode : {false, true})
        for (const int tokens : {1, 7, 40}) {
          const Case c{.k = k, .v = v, .heads = 6, .kv_heads = 2, .tokens = tokens, .runs = kRuns};
          const Watched w{.c = c, .decode = decode, .isa = isa};
          EXPECT_LE(worst(w), tolerance(w))
              << name(isa) << " k " << static_cast<int>(k) << " decode " << decode << " tokens " << tokens;
        }
  }
}

TEST(Observe, WindowsLagAndGroups) {
  for (const auto& [k, v] : kTwoFormats)
    for (const bool decode : {false, true})
      for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {3, 1}})
        for (const Pos window : {0, 1, 2, 45})
          for (const bool lagged : {false, true})
            for (const int tokens : {1, 30}) {
              const Case c{.k = k,
                           .v = v,
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .head_dim = 20,
                           .tokens = tokens,
                           .runs = kRuns,
                           .window = window,
                           .lagged = lagged};
              const Watched w{.c = c, .decode = decode};
              EXPECT_LE(worst(w), tolerance(w)) << "k " << static_cast<int>(k) << " decode " << decode << " heads "
                                                << heads << " window " << window << " lagged " << lagged;
            }
}

TEST(Observe, LateQueriesFarOnesAndQueryHeads) {
  for (const auto& [k, v] : kTwoFormats)
    for (const bool by_query_head : {false, true})
      for (const Pos first_query : {0, 220, 257, 1000})
        for (const Pos far : {0, 1, 40}) {
          const Case c{.k = k, .v = v, .heads = 6, .kv_heads = 2, .head_dim = 16, .tokens = 45, .runs = kRuns};
          Watched w{.c = c, .what = {.first_query = first_query, .far = far, .by_query_head = by_query_head}};
          EXPECT_LE(worst(w), tolerance(w)) << "from " << first_query << " far " << far << " heads " << by_query_head;
          if (far > 0) continue;  // of prompts only
          w.decode = true;
          EXPECT_LE(worst(w), tolerance(w)) << "decode, from " << first_query << " heads " << by_query_head;
        }
}

// Over several partitions, whose weights are relative to maxima of their own.
TEST(Observe, ManyRows) {
  for (const Format format : {Format::kF16, Format::kInt4})
    for (const bool decode : {false, true}) {
      const Case c{.k = format,
                   .v = format,
                   .tokens = 33,
                   .runs = {{1300, 5, 0, false, true}, {20}},
                   .window = 1100,
                   .behind = 30};
      const Watched w{.c = c, .decode = decode};
      EXPECT_LE(worst(w), tolerance(w)) << static_cast<int>(format) << " decode " << decode;
    }
}

// Queries that see nothing, or nothing but dead rows, give nothing.
TEST(Observe, NothingToSee) {
  for (const bool decode : {false, true})
    for (const int behind : {0, 9, 100}) {
      const Case c{
          .tokens = 4, .runs = {{1, 3, 0, false, true}, {2, 0, 0, false, true}}, .lagged = true, .behind = behind};
      const Watched w{.c = c, .decode = decode};
      EXPECT_EQ(worst(w), 0) << "behind " << behind;
    }
}

// To the bit, however a prompt is cut and whoever computes it.
TEST(Observe, PromptsAddUpInOneOrder) {
  for (const auto& [k, v] : kFourFormats)
    for (const Observe what :
         {Observe{.first_query = 0}, Observe{.first_query = 240, .far = 9, .by_query_head = true}}) {
      const Case c{.k = k, .v = v, .heads = 6, .kv_heads = 2, .tokens = 101, .runs = kRuns, .window = 200};
      Watched w{.c = c, .what = what};
      const Measured whole(w);
      for (const std::vector<int>& steps : std::vector<std::vector<int>>{
               std::vector<int>(101, 1), {1, 99, 1}, {64, 37}, {7, 31, 2, 48, 13}, {100, 1}}) {
        w.steps = steps;
        for (w.threads = 1; w.threads <= 3; ++w.threads) {
          const Measured cut(w);
          EXPECT_EQ(cut.sums(), whole.sums()) << "k " << static_cast<int>(k) << " threads " << w.threads;
          EXPECT_EQ(cut.out(), whole.out());
        }
      }
    }
}

TEST(Observe, ThreadsChangeNoBitOfDecode) {
  for (const auto& [k, v] : kFourFormats) {
    const Case c{.k = k, .v = v, .heads = 6, .kv_heads = 2, .tokens = 9, .runs = {{1300, 5}, {20}}};
    Watched w{.c = c, .decode = true};
    const Measured one(w);
    for (w.threads = 2; w.threads <= 3; ++w.threads) {
      EXPECT_EQ(Measured(w).sums(), one.sums());
      EXPECT_EQ(Measured(w).out(), one.out());
    }
  }
}

TEST(Observe, LargestWeightOfAnyQuery) {
  for (const auto& [k, v] : kTwoFormats)
    for (const bool by_query_head : {false, true})
      for (const std::vector<int>& steps : {std::vector<int>{}, {1, 30, 9}}) {
        Watched w{.c = {.k = k, .v = v, .heads = 6, .kv_heads = 2, .tokens = 40, .runs = kRuns},
                  .what = {.first_query = 0, .by_query_head = by_query_head, .most = true},
                  .steps = steps};
        EXPECT_LE(worst(w), tolerance(w));
        Watched sum = w;
        sum.what.most = false;
        EXPECT_NE(Measured(w).sums(), Measured(sum).sums());
        w.steps = {};
        Watched cut = w;
        cut.steps = {5, 35};
        EXPECT_EQ(Measured(w).sums(), Measured(cut).sums());
      }
}

// The queries before rope, of positions from first_query on, whatever the cut; where the next ones will be.
TEST(Observe, QueriesThemselves) {
  Watched w{.c = {.heads = 6, .kv_heads = 2, .head_dim = 32, .tokens = 40, .runs = {{60}}}};
  BlockArena arena = arena_of(w.c);
  Sequence sequence(w.c, arena);
  Rope rope(rope_of(w.c));
  rope.reserve(2500);
  const Query all = sequence.query();
  const Pos first = all.pos[11];
  for (const std::vector<int>& steps : {std::vector<int>{40}, {5, 7, 28}, {1, 39}}) {
    ThreadPool pool(2);
    AttentionScratch scratch;
    std::vector<QueryMoments> queries(6, QueryMoments(32));
    int done = 0;
    for (const int tokens : steps) {
      Query query = sequence.query(done, tokens);
      query.prompt = true;
      query.observation = {.what = {.first_query = first, .future = 9}, .mass = {}, .queries = queries};
      attend(pool, arena.memory(), shape_of(w.c), rope, {&query, 1}, scratch);
      done += tokens;
    }
    for (std::size_t head = 0; head < queries.size(); ++head) {
      QueryMoments want(32);
      want.add(all.q + (11 * 6 + head) * 32, std::size_t{6} * 32, 29);
      want.expect(rope.mean(all.pos.back() + 1, 9, shape_of(w.c).scale));
      EXPECT_EQ(queries[head].count(), 29U);
      EXPECT_EQ(queries[head].next().mean, want.next().mean);
      EXPECT_EQ(queries[head].next().covariance, want.next().covariance);
    }
  }
}

}  // namespace
}  // namespace lamina
