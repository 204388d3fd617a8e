// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace lamina {
namespace {

using Options = std::vector<std::vector<LayerOption>>;
using Choice = std::vector<std::size_t>;

TEST(Allocate, GivesBytesToWhoNeedsThem) {
  // The first layer pays 5 for being small, the others 1.
  const std::vector<LayerOption> dear = {{.cost = 0, .bytes = 100}, {.cost = 5, .bytes = 40}};
  const std::vector<LayerOption> cheap = {{.cost = 0, .bytes = 100}, {.cost = 1, .bytes = 40}};
  const Options options = {dear, cheap, cheap};
  EXPECT_EQ(allocate(options, 300), (Choice{0, 0, 0}));
  EXPECT_EQ(allocate(options, 240), (Choice{0, 0, 1}));  // of equal sums the lower layer has its first option
  EXPECT_EQ(allocate(options, 180), (Choice{0, 1, 1}));
  EXPECT_EQ(allocate(options, 120), (Choice{1, 1, 1}));
  EXPECT_EQ(allocate(options, 119), std::nullopt);
}

TEST(Allocate, NothingToChooseFrom) {
  EXPECT_EQ(allocate(Options{}, 10), Choice{});
  EXPECT_EQ(allocate(Options{{}}, 10), std::nullopt);
  EXPECT_EQ(allocate(Options{{{.cost = std::numeric_limits<double>::infinity(), .bytes = 1}}}, 10), std::nullopt);
}

// Where every layer's bytes are whole units of the budget, the sum is the least of all choices.
TEST(Allocate, FindsTheLeastSum) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> cost(0, 1);
  for (int trial = 0; trial < 20; ++trial) {
    Options options(5);
    for (auto& layer : options)
      for (int i = 0; i < 4; ++i) layer.push_back({.cost = cost(random), .bytes = 1 + random() % 50});
    const std::size_t most = 100;
    double least = std::numeric_limits<double>::infinity();
    for (int code = 0; code < 1024; ++code) {
      double sum = 0;
      std::size_t bytes = 0;
      for (std::size_t layer = 0; layer < 5; ++layer) {
        const LayerOption& option = options[layer][static_cast<std::size_t>(code >> (2 * layer)) % 4];
        sum += option.cost;
        bytes += option.bytes;
      }
      if (bytes <= most) least = std::min(least, sum);
    }
    const auto choice = allocate(options, most);
    ASSERT_EQ(choice.has_value(), std::isfinite(least));
    if (!choice) continue;
    double sum = 0;
    for (std::size_t layer = 0; layer < 5; ++layer) sum += options[layer][(*choice)[layer]].cost;
    EXPECT_DOUBLE_EQ(sum, least);
  }
}

TEST(Allocate, NeverExceedsTheBudget) {
  const std::size_t most = 1'000'003;  // no multiple of its units
  const Options options(7,
                        {{.cost = 0, .bytes = 142'858}, {.cost = 1, .bytes = 142'857}, {.cost = 2, .bytes = 100'000}});
  const auto choice = allocate(options, most);
  ASSERT_TRUE(choice.has_value());
  std::size_t bytes = 0;
  for (std::size_t layer = 0; layer < options.size(); ++layer) bytes += options[layer][(*choice)[layer]].bytes;
  EXPECT_LE(bytes, most);
  EXPECT_GT(bytes, most * 9 / 10);
}

LayerCosts costs(std::vector<double> kl, double together = LayerCosts::kNone) {
  return {.kl = std::move(kl), .together = together};
}

TEST(Additive, MakesTheSumThatOfAllLayers) {
  using Values = std::vector<double>;
  EXPECT_EQ(additive(costs({1, 2}, 6)), (Values{2, 4}));
  EXPECT_EQ(additive(costs({1, 2}, 300)), (Values{4, 8}));  // at most four times
  EXPECT_EQ(additive(costs({4, 8}, 0)), (Values{1, 2}));    // at least a quarter
  EXPECT_EQ(additive(costs({0, 0}, 1)), (Values{0, 0}));
  EXPECT_EQ(additive(costs({1, 2})), (Values{1, 2}));
  EXPECT_EQ(additive(costs({1, LayerCosts::kNone}, 9)), (Values{1, std::numeric_limits<double>::infinity()}));
}

BitsCosts of_bits(const std::string& format, bool rotate, std::vector<double> kl) {
  BitsCosts of;
  of.bits.format = format;
  of.bits.rotate = rotate;
  of.costs.kl = std::move(kl);
  return of;
}

ByteBudget budget(double share) {
  ByteBudget all{.shape = {.layers = 6, .kv_heads = 2, .head_dim = 64, .query_group = 2}, .prompt = 512, .decoded = 32};
  all.most = static_cast<std::size_t>(share * static_cast<double>(all.dense()));
  return all;
}

// Two layers cannot bear 4 bits: they keep more, the others pay.
TEST(AllocatedCandidate, LayersGetWhatTheyNeed) {
  LayerFolds folds;
  for (const auto& [format, cost] : {std::pair("k8v8", 0.001), std::pair("k4v4", 0.1), std::pair("k2v2", 1.0)})
    folds.bits.push_back(of_bits(format, false, {50 * cost, cost, cost, 50 * cost, cost, cost}));
  const auto found = allocated_candidate(folds, budget(0.4));
  ASSERT_TRUE(found);
  EXPECT_LE(found->bytes, budget(0.4).most);
  EXPECT_EQ(found->axes, Axes{.bits = true});
  const KvSpec& spec = *found->spec;
  EXPECT_EQ(bits(spec[SlotId{0}].k), 8);
  EXPECT_EQ(bits(spec[SlotId{3}].k), 8);
  EXPECT_EQ(bits(spec[SlotId{1}].k), 4);
  EXPECT_FALSE(allocated_candidate(folds, budget(0.05)));
}

TEST(AllocatedCandidate, RowsAndSharedLayersToo) {
  const auto methods = token_methods(budget(1).shape);
  const TokenMethod snapkv = *std::ranges::find(methods, "snapkv", &TokenMethod::name);
  const LayerFolds folds{.bits = {of_bits("k4v4", true, std::vector<double>(6, 0.01))},
                         .rows = {{.method = snapkv, .keep = 0.5, .costs = costs({9, 9, 9, .01, .01, .01})},
                                  {.method = snapkv, .keep = 0.1, .costs = costs({90, 90, 90, .02, .02, .02})}},
                         .target = {0, 1, 1, 3, 4, 5}};
  const auto found = allocated_candidate(folds, budget(0.2));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->axes.count(), 3);
  EXPECT_TRUE(found->spec->rotate);
  EXPECT_EQ(found->spec->layers.slots(), 5);
  EXPECT_EQ((*found->spec)[SlotId{0}].tokens, nullptr);
  EXPECT_NE((*found->spec)[SlotId{4}].tokens, nullptr);
}

}  // namespace
}  // namespace lamina
