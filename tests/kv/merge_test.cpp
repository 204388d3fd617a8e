// SPDX-License-Identifier: Apache-2.0
// Pairs of layers in the store: every variant of MiniCache against the naive model of tests/kv/kv_ops.h, which merges
// in double precision, and the bytes against the paper's formula and the layout's own.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "kv/expect_error.h"
#include "kv/kv_ops.h"

namespace lamina {
namespace {

KvShape shape(int layers, int heads, int dim) {
  KvShape s;
  s.layers = layers;
  s.kv_heads = heads;
  s.head_dim = dim;
  return s;
}

// A sequence and its naive twin, fed with the same random rows.
class Twins {
 public:
  explicit Twins(const std::string& spec, const KvShape& s = shape(3, 2, 20), unsigned seed = 1)
      : shape_(s),
        spec_(std::make_shared<KvSpec>(KvSpec::parse(spec, s))),
        pool(s, 64 << 20),
        kv(spec_, s, pool),
        naive(spec_, s),
        random_(seed) {}

  void step(Phase phase, int appended, int accepted) {
    const auto width = static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim);
    std::normal_distribution<float> normal;
    std::vector<float> k(width * static_cast<std::size_t>(appended)), v(k.size());
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (float& x : k) x = normal(random_);
      for (float& x : v) x = normal(random_);
      kv.append(LayerId{layer}, kv.length(), appended, k.data(), v.data());
      naive.append(LayerId{layer}, appended, k.data(), v.data());
    }
    kv.commit(phase, appended, accepted);
    naive.commit(phase, accepted);
  }
  void step(Phase phase, int tokens) { step(phase, tokens, tokens); }
  void decode(int tokens) {
    for (int i = 0; i < tokens; ++i) step(Phase::kDecode, 1);
  }
  void expect_same() { ASSERT_NO_THROW(testing::expect_same(kv, naive)) << spec_->text(); }

 private:
  KvShape shape_;
  std::shared_ptr<const KvSpec> spec_;

 public:
  BlockPool pool;
  KvSequence kv;
  testing::NaiveSequence naive;

 private:
  std::mt19937 random_;
};

// [layer][head] every row as attention reads it: position, codes of K and V, gains.
std::vector<std::map<Pos, std::vector<float>>> read_all(KvSequence& kv) {
  std::vector<std::map<Pos, std::vector<float>>> all;
  for (int layer = 0; layer < kv.shape().layers; ++layer)
    for (const auto& segments : kv.segments(LayerId{layer})) {
      auto& rows = all.emplace_back();
      for (const Segment& s : segments)
        for (std::uint32_t i = 0; i < s.rows(); ++i) {
          const auto dim = static_cast<std::size_t>(kv.shape().head_dim);
          std::vector<float> x(2 * dim + 2);
          read_row({kv.memory(), RowKind::kKey, s.k_format, kv.shape().head_dim, s.k_codes, s.k_scales}, s.first + i,
                   x.data());
          read_row({kv.memory(), RowKind::kValue, s.v_format, kv.shape().head_dim, s.v_codes, s.v_scales}, s.first + i,
                   x.data() + dim);
          x[2 * dim] = static_cast<float>(testing::gain_of(kv.memory(), s.k_gains, s.first + i));
          x[2 * dim + 1] = static_cast<float>(testing::gain_of(kv.memory(), s.v_gains, s.first + i));
          EXPECT_TRUE(rows.emplace(s.pos[i] + s.shift, std::move(x)).second);
        }
    }
  return all;
}

const char* const kWhat[] = {"", ",index=union", ",index=k", ",of=k", ",of=v"};
const char* const kHow[] = {",merge=slerp", ",merge=mean", ",merge=maxnorm"};
const char* const kRules[] = {",rule=distance,keep=0.3", ",rule=top,keep=0.3", ",rule=cosine,keep=0.3",
                              ",rule=literal,keep=0.3",  ",rule=top,keep=0",   ",rule=top,keep=1"};

TEST(Merge, EveryVariantEqualsTheNaiveModel) {
  std::size_t round = 0;
  for (const char* what : kWhat)
    for (const char* how : kHow)
      for (const char* vector : {"", ",vector=head"})
        for (const char* bits : {"f16", "f32", "k8v8", "k4v4", "k8v4", "k16v8"}) {
          const char* rule = kRules[round++ % std::size(kRules)];
          Twins twins(std::string("minicache(start=1") + what + how + vector + rule + ") + " + bits);
          twins.step(Phase::kPrompt, 30);  // raw until its prompt ends
          twins.expect_same();
          twins.step(Phase::kPromptEnd, 41);
          twins.expect_same();
          for (int i = 0; i < 4; ++i) {
            twins.decode(15);
            twins.expect_same();
          }
          twins.step(Phase::kPromptEnd, 33);
          twins.decode(3);
          twins.expect_same();
        }
}

TEST(Merge, KeysAndValuesAreKeptApartByThemselves) {
  const auto differing = [](const char* index) {
    Twins twins(std::string("minicache(start=1,keep=0.3,index=") + index + ")");
    twins.step(Phase::kPromptEnd, 60);
    twins.decode(40);
    twins.expect_same();
    std::size_t rows = 0, k_apart = 0, v_apart = 0;
    for (const auto& row : twins.naive.rows(1)) {
      rows += row.k.merged != row.v.merged;
      k_apart += !row.k.merged;
      v_apart += !row.v.merged;
    }
    EXPECT_GT(k_apart, 0U);
    EXPECT_GT(v_apart, 0U);
    EXPECT_EQ(twins.kv.merged().apart, k_apart + v_apart);
    EXPECT_EQ(twins.kv.merged().merged, 2 * 100 - k_apart - v_apart);
    return rows;
  };
  EXPECT_GT(differing("own"), 0U);
  EXPECT_EQ(differing("union"), 0U);
  EXPECT_EQ(differing("k"), 0U);
}

TEST(Merge, TheNewestRowIsExactForItsOwnStep) {
  Twins twins("minicache(start=1,keep=0)");
  twins.step(Phase::kPromptEnd, 20);
  const std::vector<float> lower(40, .25F), deeper(40, .5F);
  for (int layer = 0; layer < 3; ++layer)
    twins.kv.append(LayerId{layer}, 20, 1, (layer == 2 ? deeper : lower).data(), lower.data());
  for (const int layer : {1, 2}) {
    const Segment newest = twins.kv.segments(LayerId{layer})[1].back();
    ASSERT_EQ(newest.rows(), 1U);
    EXPECT_EQ(newest.pos[0], 20);
    EXPECT_FALSE(newest.k_gains);
    std::vector<float> x(20);
    read_row({twins.kv.memory(), RowKind::kKey, newest.k_format, 20, newest.k_codes, newest.k_scales}, newest.first,
             x.data());
    EXPECT_EQ(x[7], layer == 2 ? .5F : .25F);
  }
  twins.kv.commit(Phase::kDecode, 1);
  EXPECT_TRUE(twins.kv.segments(LayerId{1})[1].back().k_gains);  // merged from the next step on
}

TEST(Merge, StreamingEqualsBatch) {
  for (const char* text : {"minicache(start=1,keep=0.3)", "minicache(start=1,keep=0.3,rule=top) + k8v4",
                           "minicache(keep=1,of=v) + k4v4"}) {
    Twins one(text), batch(text);
    one.step(Phase::kPromptEnd, 50);
    batch.step(Phase::kPromptEnd, 50);
    // The twins draw a step's rows layer by layer: feed both from one list.
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    std::vector<std::vector<float>> rows(6, std::vector<float>(std::size_t{70} * 40));
    for (auto& x : rows)
      for (float& value : x) value = normal(random);
    const auto append = [&](KvSequence& kv, std::size_t first, int tokens) {
      for (std::size_t layer = 0; layer < 3; ++layer)
        kv.append(LayerId{static_cast<int>(layer)}, kv.length(), tokens, &rows[2 * layer][first * 40],
                  &rows[2 * layer + 1][first * 40]);
    };
    for (std::size_t i = 0; i < 70; ++i) {
      append(one.kv, i, 1);
      one.kv.commit(Phase::kDecode, 1);
    }
    append(batch.kv, 0, 70);
    batch.kv.commit(Phase::kDecode, 70);
    EXPECT_EQ(read_all(one.kv), read_all(batch.kv)) << text;
  }
}

TEST(Merge, RefusedTokensLeaveNothingBehind) {
  for (const char* text : {"minicache(start=1,keep=0.3)", "minicache(start=1,keep=0.3) + k8v8",
                           "minicache(start=1,keep=0.3) + streaming(sinks=2,window=30) + k4v4"}) {
    Twins twins(text);
    twins.step(Phase::kPromptEnd, 50);
    const auto before = read_all(twins.kv);
    const std::size_t held = twins.pool.held_bytes();
    twins.step(Phase::kDecode, 20, 0);
    EXPECT_EQ(read_all(twins.kv), before) << text;
    EXPECT_EQ(twins.pool.held_bytes(), held) << text;
    for (int i = 0; i < 20; ++i) twins.step(Phase::kDecode, 4, i % 4);
    twins.expect_same();
    EXPECT_EQ(twins.kv.length(), 80);
  }
}

TEST(Merge, TruncateRefusesMergedRowsWithTheReason) {
  Twins twins("minicache(start=1)");
  twins.step(Phase::kPromptEnd, 50);
  twins.decode(3);
  const auto before = read_all(twins.kv);
  for (const Pos length : {52, 50, 20, 0})
    EXPECT_EQ(error_of([&] { twins.kv.truncate(length); }),
              fmt::format("kv cache: cannot go back from 53 to {} tokens: under \"minicache(start=1)\" it has merged "
                          "rows by what the longer text needed",
                          length));
  EXPECT_EQ(read_all(twins.kv), before);
  twins.kv.truncate(53);
  EXPECT_EQ(read_all(twins.kv), before);
  // Inside a prompt nothing is merged yet.
  Twins inside("minicache(start=1)");
  inside.step(Phase::kPrompt, 30);
  inside.kv.truncate(20);
  inside.naive.truncate(20);
  inside.step(Phase::kPromptEnd, 10);
  inside.expect_same();
  // A spec that leaves no pair merges nothing.
  Twins alone("minicache(start=1.0)");
  alone.step(Phase::kPromptEnd, 50);
  alone.kv.truncate(20);
  EXPECT_EQ(alone.kv.length(), 20);
}

TEST(Merge, ForksDivergeApart) {
  for (const char* text : {"minicache(start=1,keep=0.3)", "minicache(start=1,keep=0.3,vector=head) + k8v4",
                           "minicache(start=1,keep=0.3) + streaming(sinks=2,window=30) + k8v8"}) {
    Twins twins(text);
    twins.step(Phase::kPromptEnd, 57);
    twins.decode(5);
    const auto before = read_all(twins.kv);
    const std::size_t held = twins.pool.held_bytes();
    {
      KvSequence fork = twins.kv.fork();
      EXPECT_EQ(twins.pool.held_bytes(), held);
      EXPECT_EQ(read_all(fork), before);
      const std::vector<float> rows(std::size_t{40} * 40, .5F);
      for (int layer = 0; layer < 3; ++layer) fork.append(LayerId{layer}, fork.length(), 40, rows.data(), rows.data());
      EXPECT_EQ(read_all(twins.kv), before) << text;
      fork.commit(Phase::kDecode, 40);
      EXPECT_EQ(read_all(twins.kv), before) << text;
      EXPECT_NE(read_all(fork), before);
      const auto forked = read_all(fork);
      twins.decode(40);
      twins.expect_same();
      EXPECT_EQ(read_all(fork), forked) << text;
    }
    twins.kv = KvSequence(std::make_shared<KvSpec>(twins.kv.spec()), twins.kv.shape(), twins.pool);
    EXPECT_EQ(twins.pool.held_bytes(), 0U) << text;
  }
}

TEST(Merge, WithoutAPromptAllIsMerged) {
  Twins twins("minicache(start=1,keep=1)");
  twins.decode(40);
  twins.expect_same();
  EXPECT_EQ(twins.kv.merged().apart, 0U);
  EXPECT_EQ(twins.kv.merged().merged, 80U);
}

// 1.8 of the specification: bytes of one token, in the units of its formula. f: share of layers merged, rho: share of
// rows kept apart, g: magnitudes for a row, layer and tensor.
double paper_bytes(double layers, double h, double f, double rho, double g) {
  return layers * (4 * h * (1 - f / 2) + 4 * h * f * rho + 4 * f * g);
}
double paper_ratio(double f, double rho, double g = 1) { return 4 * 4096.0 / paper_bytes(1, 4096, f, rho, g); }

TEST(Merge, T10TheFormulaHasThePublishedFigures) {
  EXPECT_NEAR(paper_ratio(.5, 0), 1.33312, 5e-6);
  EXPECT_NEAR(paper_ratio(.5, .05), 1.29012, 5e-6);
  EXPECT_NEAR(paper_ratio(.5, .05), 4 * 4096 / (3.1 * 4096 + 2), 1e-12);
  EXPECT_NEAR(paper_ratio(22.0 / 32, 0), 1.52342, 5e-6);
  EXPECT_NEAR(paper_ratio(.75, .05), 1.509, 5e-4);
  EXPECT_NEAR(paper_ratio(.875, 0), 1.777, 5e-4);
  EXPECT_NEAR(paper_ratio(.875, .05), 1.649, 5e-4);
}

// What the runs hold of `n` tokens: a row kept apart takes both layers' rows and nothing else, where the paper's layout
// also keeps its direction and magnitudes.
std::size_t expected_bytes(std::size_t layers, std::size_t pairs, std::size_t h, std::size_t n, std::size_t apart,
                           std::size_t g) {
  const std::size_t merged = (n - apart) * (2 * h + 4 * g), kept = apart * 4 * h;
  return (layers - 2 * pairs) * 4 * h * n + pairs * 2 * (merged + kept);
}

TEST(Merge, T10BytesOfTheRealStore) {
  const KvShape s = shape(4, 32, 128);
  const std::size_t h = 4096, n = 160;
  for (const auto& [keep, apart] : {std::pair("0", 0), std::pair("0.05", 8), std::pair("1", 160)})
    for (const auto& [vector, g] : {std::pair("token", 1), std::pair("head", 32)}) {
      Twins twins(fmt::format("minicache(rule=top,keep={},vector={})", keep, vector), s);
      std::mt19937 random(3);
      for (int layer = 0; layer < 4; ++layer) {
        std::vector<float> k(n * h), v(n * h);
        for (auto* tensor : {&k, &v})
          for (float& x : *tensor) x = static_cast<float>(random() % 2001) / 1000 - 1;
        twins.kv.append(LayerId{layer}, 0, static_cast<int>(n), k.data(), v.data());
      }
      twins.kv.commit(Phase::kPromptEnd, static_cast<int>(n));
      const KvBytes bytes = twins.kv.bytes();
      const std::size_t expected =
          expected_bytes(4, 1, h, n, static_cast<std::size_t>(apart), static_cast<std::size_t>(g));
      EXPECT_EQ(bytes.rows + bytes.gains, expected) << keep << vector;
      EXPECT_EQ(bytes.gains, (n - static_cast<std::size_t>(apart)) * 8 * static_cast<std::size_t>(g));
      EXPECT_EQ(bytes.scales, 0U);
      const double dead = 2.0 * apart * (2.0 * h + 4 * g);  // directions and magnitudes of rows kept apart
      const double rho = static_cast<double>(apart) / static_cast<double>(n);
      EXPECT_EQ(static_cast<double>(expected) + dead, static_cast<double>(n) * paper_bytes(4, h, .5, rho, g));
      EXPECT_EQ(twins.kv.merged().apart, 2U * static_cast<std::size_t>(apart));
    }
}

// Other shares of the layers, by the pool that only counts.
TEST(Merge, T10BytesOfThePlan) {
  const KvShape s = shape(32, 32, 128);
  const std::size_t h = 4096, n = 640;
  const std::pair<const char*, std::size_t> starts[] = {{"0.5", 8}, {"10", 11}, {"0.25", 12}, {"4", 14}, {"1.0", 0}};
  for (const auto& [start, pairs] : starts)
    for (const auto& [keep, apart] : {std::pair("0", 0U), std::pair("0.05", 32U)}) {
      const auto spec =
          std::make_shared<KvSpec>(KvSpec::parse(fmt::format("minicache(rule=top,start={},keep={})", start, keep), s));
      const KvBytes bytes = plan_kv(spec, s, static_cast<int>(n), 0, 512).steady;
      EXPECT_EQ(bytes.rows + bytes.gains, expected_bytes(32, pairs, h, n, apart, 1)) << start << " " << keep;
      if (apart == 0) {
        const double full = 32.0 * 4 * h * n;
        EXPECT_NEAR(full / static_cast<double>(bytes.rows + bytes.gains),
                    paper_ratio(static_cast<double>(pairs) / 16, 0), 1e-12);
      }
    }
}

// Directions are encoded, gains and rows kept apart are not.
TEST(Merge, BytesOfCodes) {
  const KvShape s = shape(4, 2, 64);
  const std::size_t h = 128, n = 320, apart = 16;
  Twins twins("minicache(rule=top,keep=0.05,index=k) + k4v4", s);
  twins.step(Phase::kPromptEnd, static_cast<int>(n));
  const KvBytes bytes = twins.kv.bytes();
  const std::size_t merged_exact = 16 + (n - apart) % 16, plain_exact = 16;  // these wait in f16
  const std::size_t merged = merged_exact * 2 * h + (n - apart - merged_exact) * h / 2;
  const std::size_t plain = plain_exact * 2 * h + (n - plain_exact) * h / 2;
  EXPECT_EQ(bytes.rows, 2 * (merged + apart * 4 * h) + 2 * 2 * plain);
  EXPECT_EQ(bytes.gains, 2 * (n - apart) * 4);
  EXPECT_EQ(bytes.scales, (2 * (n - apart - merged_exact) + 2 * 2 * (n - plain_exact)) * (h / 32) * 2);
}

}  // namespace
}  // namespace lamina
