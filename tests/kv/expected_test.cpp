// SPDX-License-Identifier: Apache-2.0
// Expected attention against its definition, written out in double precision: the statistics of all queries at once,
// every position to come by itself, whole matrices.
#include "kv/tokens/expected.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numeric>
#include <random>

#include "kv/expect_error.h"
#include "kv/spec.h"
#include "kv/token_policies.h"

namespace lamina {
namespace {

using Vector = std::vector<double>;

constexpr int kDim = 10, kRopeDims = 8, kGroup = 3;  // two channels stay as they are
constexpr Pos kRows = 70;
constexpr double kScale = 0.4;

double frequency(int pair) { return std::pow(100.0, -2.0 * pair / kRopeDims); }

struct Head {
  std::vector<std::vector<float>> queries;  // [query head] of [query][channel]
  std::vector<float> keys, value_norms;
  std::vector<Pos> pos;
};

Head random_head(unsigned seed, Pos first = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Head head;
  head.queries.resize(kGroup);
  for (auto& queries : head.queries) {
    std::vector<float> mean(kDim);
    for (float& x : mean) x = normal(random);
    for (int i = 0; i < 50 * kDim; ++i) queries.push_back(mean[static_cast<std::size_t>(i % kDim)] + normal(random));
  }
  for (Pos row = 0; row < kRows; ++row) {
    head.pos.push_back(first + row);
    head.value_norms.push_back(std::fabs(normal(random)));
    for (int c = 0; c < kDim; ++c) head.keys.push_back(normal(random));
  }
  return head;
}

// What attention leaves in the moments at the end of a prompt of `length` tokens.
std::vector<QueryMoments> moments(const Head& head, Pos length, int future, bool interleaved,
                                  std::vector<std::size_t> cuts) {
  NextPositions next{.turn = {}, .interleaved = interleaved, .scale = kScale};
  for (int pair = 0; pair < kRopeDims / 2; ++pair) {
    std::complex<double> sum = 0;
    for (Pos pos = length; pos < length + future; ++pos) sum += std::polar(1.0, pos * frequency(pair));
    next.turn.push_back(sum / static_cast<double>(future));
  }
  std::vector<QueryMoments> all;
  for (const auto& queries : head.queries) {
    all.emplace_back(kDim);
    const float* from = queries.data();
    for (const std::size_t count : cuts) {
      all.back().add(from, kDim, count);
      from += count * kDim;
    }
    all.back().expect(next);
  }
  return all;
}

// The matrix that rope is on average, from one position after the other.
std::vector<Vector> mean_rope(Pos length, int future, bool interleaved) {
  std::vector<Vector> matrix(kDim, Vector(kDim));
  for (int pair = 0; pair < kRopeDims / 2; ++pair) {
    const int a = interleaved ? 2 * pair : pair, b = interleaved ? 2 * pair + 1 : pair + kRopeDims / 2;
    for (Pos pos = length; pos < length + future; ++pos) {
      const double cos = std::cos(pos * frequency(pair)) / future, sin = std::sin(pos * frequency(pair)) / future;
      matrix[a][a] += cos, matrix[b][b] += cos, matrix[a][b] -= sin, matrix[b][a] += sin;
    }
  }
  for (int c = kRopeDims; c < kDim; ++c) matrix[c][c] = 1;
  return matrix;
}

// q . key * scale over the queries of one head, turned: its mean, and half its variance.
Vector logits(const std::vector<float>& queries, std::span<const float> keys, const std::vector<Vector>& rope,
              bool covariance) {
  const std::size_t n = queries.size() / kDim;
  Vector result;
  for (std::size_t row = 0; row < keys.size() / kDim; ++row) {
    Vector product(n);
    for (std::size_t q = 0; q < n; ++q)
      for (int i = 0; i < kDim; ++i)
        for (int j = 0; j < kDim; ++j) product[q] += kScale * keys[row * kDim + i] * rope[i][j] * queries[q * kDim + j];
    const double mean = std::accumulate(product.begin(), product.end(), 0.0) / static_cast<double>(n);
    double variance = 0;
    for (const double x : product) variance += (x - mean) * (x - mean) / static_cast<double>(n);
    result.push_back(mean + (covariance ? variance / 2 : 0));
  }
  return result;
}

struct Options {
  int future = 512, sinks = 4;
  bool covariance = true, values = true;
  double epsilon = 0;
};

Keep defined(const Head& head, const Options& options, std::size_t count, bool interleaved) {
  const auto rope = mean_rope(kRows, options.future, interleaved);
  Vector score(kRows);
  for (const auto& queries : head.queries) {
    Vector x = logits(queries, head.keys, rope, options.covariance);
    double sum = 0;
    for (Pos row = options.sinks; row < kRows; ++row) sum += std::exp(x[static_cast<std::size_t>(row)]);
    for (std::size_t row = 0; row < x.size(); ++row) score[row] += std::exp(x[row]) / sum / kGroup;
  }
  for (std::size_t row = 0; row < score.size(); ++row) {
    if (options.values) score[row] = (score[row] + options.epsilon) * double{head.value_norms[row]};
    if (static_cast<int>(row) < options.sinks) score[row] = INFINITY;
  }
  Keep rows(score.size());
  std::iota(rows.begin(), rows.end(), 0U);
  std::ranges::stable_sort(rows, [&](auto a, auto b) { return score[a] > score[b]; });
  rows.resize(count);
  std::ranges::sort(rows);
  return rows;
}

Keep kept(const TokenPolicy& tokens, const Head& head, std::span<const QueryMoments> queries, const Step& step) {
  const HeadRows rows{.pos = head.pos, .keys = head.keys, .value_norms = head.value_norms, .queries = queries};
  Keep keep;
  tokens.select(step, {&rows, 1}, {&keep, 1});
  return keep;
}

TEST(Expected, KeepsWhatItsDefinitionSays) {
  const std::vector<std::pair<std::string, Options>> cases = {
      {"expected(keep=20)", {}},
      {"expected(keep=20,future=33,sinks=0)", {.future = 33, .sinks = 0}},
      {"expected(keep=20,sinks=9,covariance=off)", {.sinks = 9, .covariance = false}},
      {"expected(keep=20,future=1,values=off)", {.future = 1, .values = false}},
      {"expected(keep=20,epsilon=0.05)", {.epsilon = 0.05}}};
  for (const auto& [text, options] : cases)
    for (const bool interleaved : {false, true})
      for (unsigned seed = 0; seed < 5; ++seed) {
        const Head head = random_head(seed);
        const auto queries = moments(head, kRows, options.future, interleaved, {50});
        EXPECT_EQ(kept(*policy(text), head, queries, prompt_end(kRows)), defined(head, options, 20, interleaved))
            << text << ", seed " << seed;
      }
}

TEST(Expected, StatisticsDoNotDependOnTheCut) {
  const Head head = random_head(1);
  const auto whole = moments(head, kRows, 40, false, {50}), cut = moments(head, kRows, 40, false, {1, 7, 0, 32, 10});
  for (std::size_t h = 0; h < whole.size(); ++h) {
    EXPECT_EQ(cut[h].count(), 50U);
    EXPECT_EQ(cut[h].next().mean, whole[h].next().mean);
    EXPECT_EQ(cut[h].next().covariance, whole[h].next().covariance);
  }
  EXPECT_NE(whole[0].next().mean, whole[1].next().mean);
}

// In a layer with a sliding window the sinks may have left: the rows that are held are judged by position.
TEST(Expected, SinksArePositions) {
  const Head all = random_head(2), late = random_head(2, 100);
  const auto queries = moments(all, kRows, 512, false, {50});
  const Keep keep = kept(*policy("expected(keep=4)"), all, queries, prompt_end(kRows));
  EXPECT_EQ(keep, (Keep{0, 1, 2, 3}));
  EXPECT_NE(kept(*policy("expected(keep=4)"), late, queries, prompt_end(170)), keep);
}

TEST(Expected, KeepsItsBudgetAndWhatIsDecoded) {
  const Head head = random_head(3);
  const auto queries = moments(head, kRows, 512, false, {50});
  for (const auto& [text, rows] : std::vector<std::pair<const char*, Pos>>{{"expected(keep=70)", 70},
                                                                           {"expected(keep=69)", 69},
                                                                           {"expected(keep=0.5)", 35},
                                                                           {"expected(keep=0.29)", 20},
                                                                           {"expected(keep=1%)", 4},
                                                                           {"expected(keep=1%,sinks=0)", 1}}) {
    const auto tokens = policy(text);
    EXPECT_EQ(std::ssize(kept(*tokens, head, queries, prompt_end(kRows))), rows) << text;
    EXPECT_EQ(tokens->most_rows(kRows, kRows), rows) << text;
    EXPECT_EQ(tokens->most_rows(kRows + 9, kRows), rows + 9) << text;
    EXPECT_EQ(std::ssize(kept(*tokens, head, {}, decode(kRows, 9))), kRows) << text;
  }
}

TEST(Expected, AsksForQueriesOfPromptsAfterTheSinks) {
  const auto tokens = policy("expected(keep=9,sinks=2,future=77)");
  const Observe prompt = tokens->observes({.phase = Phase::kPrompt, .prompt_end = 100});
  EXPECT_EQ(prompt.first_query, 2);
  EXPECT_EQ(prompt.future, 77);
  EXPECT_EQ(prompt.columns(3), 0);  // no sums
  EXPECT_FALSE(tokens->observes({.phase = Phase::kDecode, .prompt_end = 100}).any());
  EXPECT_TRUE(tokens->by_head());
  EXPECT_FALSE(tokens->request_bound());
}

TEST(Expected, PrintsItselfWithoutDefaults) {
  expect_canonical({{"expected", "expected"},
                    {"expected(epsilon=0,values=on,covariance=on,sinks=4,future=512,keep=512)", "expected"},
                    {"expected(covariance=off, keep=25%)", "expected(keep=0.25,covariance=off)"},
                    {"expected(sinks=0,future=64,epsilon=0.020)", "expected(future=64,sinks=0,epsilon=0.02)"},
                    {"expected(values=off)", "expected(values=off)"}});
}

TEST(Expected, RefusesBadArguments) {
  EXPECT_ERROR(policy("expected(keep=0)"), "keep of expected is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("expected(keep=3)"), "keep of expected is 3, expected at least the 4 sinks");
  EXPECT_ERROR(policy("expected(keep=1.5)"), "keep of expected is \"1.5\", expected a fraction");
  EXPECT_ERROR(policy("expected(future=0)"), "future of expected is \"0\", expected an integer from 1 to");
  EXPECT_ERROR(policy("expected(sinks=-1)"), "sinks of expected is \"-1\", expected an integer from 0 to");
  EXPECT_ERROR(policy("expected(covariance=yes)"), "covariance of expected is \"yes\"");
  EXPECT_ERROR(policy("expected(epsilon=-1)"), "epsilon of expected is \"-1\"");
  EXPECT_ERROR(policy("expected(epsilon=1,values=off)"), "expected has an epsilon, which does nothing with values=off");
  EXPECT_ERROR(policy("expected(window=4)"), "expected has the unknown argument \"window=\"");
  KvShape shape;
  shape.layers = 4, shape.kv_heads = 2, shape.head_dim = 8;
  EXPECT_ERROR(KvSpec::parse("minicache + expected", shape),
               "expected goes by each layer's own keys and values, minicache merges them");
  EXPECT_ERROR(KvSpec::parse("map(0_2_2_3,kinds=any) + expected", shape, UpwardMaps::kAny),
               "expected measures attention, but layers that read higher ones");
  EXPECT_EQ(KvSpec::parse("expected", shape).why_no_prefix_reuse(), "");
}

}  // namespace
}  // namespace lamina
