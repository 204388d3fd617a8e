// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_specs.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lamina {
namespace {

const KvShape kShape = {.layers = 6, .kv_heads = 2, .head_dim = 64, .query_group = 2};
const KvShape kWindows = {
    .layers = 6, .kv_heads = 1, .head_dim = 64, .query_group = 2, .windows = {128, 128, 0, 128, 128, 0}};

ByteBudget budget(double share, const KvShape& shape = kShape) {
  ByteBudget all{.shape = shape, .prompt = 512, .decoded = 32, .most = SIZE_MAX};
  all.most = static_cast<std::size_t>(share * static_cast<double>(all.dense()));
  return all;
}

TokenMethod method(const std::string& name, const KvShape& shape = kShape) {
  const auto all = token_methods(shape);
  return *std::ranges::find(all, name, &TokenMethod::name);
}

Axes axes(const std::string& spec) { return axes_of(KvSpec::parse(spec, kShape), kShape); }

TEST(TuneAxes, OfASpec) {
  EXPECT_EQ(axes("full"), Axes{});
  EXPECT_EQ(axes("rotate").count(), 0);
  EXPECT_EQ(axes("k4v4 + rotate"), Axes{.bits = true});
  EXPECT_EQ(axes("tokens(3=streaming(keep=9))"), Axes{.tokens = true});
  EXPECT_EQ(axes("map(0_0_2_3_4_5) + k8v8").text(), "layers + bits");
  EXPECT_EQ(axes("minicache"), Axes{.layers = true});
}

TEST(TuneCandidates, SharesAreExactInSpecs) {
  EXPECT_EQ(share_text(0.5), "0.5");
  EXPECT_EQ(share_text(0.125), "0.125");
  EXPECT_EQ(share_text(0.001 / 2), "0.0005");
  EXPECT_EQ(method("h2o oneshot").term(0.25), "h2o(heavy=0.125,recent=0.125,oneshot)");
  EXPECT_EQ(method("kvzip", kWindows).term(0.5), "tokens(2=kvzip(keep=0.5),5=kvzip(keep=0.5))");
}

TEST(TuneCandidates, EveryMethodIsASpec) {
  for (const KvShape& shape : {kShape, kWindows}) {
    for (const TokenMethod& m : token_methods(shape))
      EXPECT_NE(spec_if_possible(m.term(0.5), shape), nullptr) << m.name;
    for (const RowBits& b : row_bits()) EXPECT_NE(spec_if_possible(b.term(), shape), nullptr) << b.term();
  }
  EXPECT_EQ(spec_if_possible("h2o + kivi4", kShape), nullptr);  // keys that cannot close ranks
}

TEST(TuneCandidates, OfOneAxisFitTheBudgetAndFillIt) {
  for (const double share : {0.5, 0.25, 0.125}) {
    const ByteBudget most = budget(share);
    int tokens = 0;
    for (const Candidate& c : single_axis_candidates(most)) {
      EXPECT_EQ(c.axes.count(), 1) << c.spec->text();
      EXPECT_LE(c.bytes, most.most) << c.spec->text();
      if (!c.axes.tokens) continue;
      ++tokens;
      EXPECT_GT(static_cast<double>(c.bytes), 0.75 * static_cast<double>(most.most)) << c.spec->text();
    }
    EXPECT_GE(tokens, share == 0.125 ? 8 : 9) << share;
  }
}

TEST(TuneCandidates, FormatsLeaveMethodsMoreRows) {
  const ByteBudget most = budget(0.25);
  const std::vector<TokenMethod> snapkv = {method("snapkv")};
  const std::vector<RowBits> k4v4 = {{.format = "k4v4"}};
  const std::vector<std::string> map = {"map(0_0_2_3_4_5)"};
  const auto found = combined_candidates(snapkv, k4v4, map, most);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].axes.text(), "tokens + bits");
  EXPECT_EQ(found[1].axes.count(), 3);  // 4 bits and five layers of six are too much still
  for (const Candidate& c : found) {
    EXPECT_LE(c.bytes, most.most);
    EXPECT_GT(static_cast<double>(c.bytes), 0.9 * static_cast<double>(most.most));
    const auto smaller = c.remade(budget(0.2));
    ASSERT_TRUE(smaller);
    EXPECT_EQ(smaller->axes, c.axes);
    EXPECT_LE(smaller->bytes, budget(0.2).most);
    EXPECT_EQ(smaller->remade(most)->spec->text(), c.spec->text());
  }
  EXPECT_TRUE(combined_candidates(snapkv, k4v4, map, budget(0.01)).empty());
}

}  // namespace
}  // namespace lamina
