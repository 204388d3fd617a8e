// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/lckv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "kv/expect_error.h"
#include "kv/layers/layer_map.h"

namespace lamina {
namespace {

constexpr int kHuge = std::numeric_limits<int>::max();

std::size_t kv_layers(const LayerTypes& types) { return std::set(types.target.begin(), types.target.end()).size(); }

std::string text(const LayerTypes& types) { return print_layer_types(types.target, types.sliding); }

// "0_20_20_21" for ("0", "_20", 2, "_21").
std::string with_block(std::string text, const char* item, int times, const char* end) {
  for (int i = 0; i < times; ++i) text.append(item);
  return text.append(end);
}

// The maps of the authors' configurations.
TEST(Lckv, GivesThePublishedMaps) {
  EXPECT_EQ(text(lckv(8, 2)), "0_6_6_6_6_6_6_7");
  EXPECT_EQ(text(lckv(12, 2)), "0_10_10_10_10_10_10_10_10_10_10_11");
  EXPECT_EQ(text(lckv(22, 2)), with_block("0", "_20", 20, "_21"));
  EXPECT_EQ(text(lckv(22, 10)), with_block("0_1_2_3_4", "_16", 12, "_17_18_19_20_21"));
  EXPECT_EQ(text(lckv(8, 0)), "7_7_7_7_7_7_7_7");
}

TEST(Lckv, KeepsOneLayerMoreThanItWarmsUp) {
  for (const int w : {0, 2, 4, 10, 20}) {
    EXPECT_EQ(kv_layers(lckv(22, w)), static_cast<std::size_t>(w + 1)) << w;
    EXPECT_EQ(text(lckv(22, w)), text(sandwich(22, w + 1, GroupOwner::kTop))) << w;
  }
}

TEST(Lckv, RoundsAnOddNumberOfWarmUpLayersDown) {
  for (const int w : {1, 3, 7}) EXPECT_EQ(text(lckv(8, w)), text(lckv(8, w - 1))) << w;
  EXPECT_EQ(text(lckv(9, 9)), text(lckv(9, 8)));
}

TEST(Lckv, RefusesWhatLeavesNoLayerToShare) {
  EXPECT_ERROR(lckv(8, -1), "lckv: w is -1 for a model of 8 layers, expected 0 to 7");
  EXPECT_ERROR(lckv(8, 8), "lckv: w is 8 for a model of 8 layers, expected 0 to 7");
  EXPECT_ERROR(lckv(9, 10), "expected 0 to 9");
  EXPECT_ERROR(lckv(8, kHuge), "expected 0 to 7");
  EXPECT_EQ(text(lckv(1, 0)), "0");
  EXPECT_EQ(text(lckv(9, 8)), "0_1_2_3_4_5_6_7_8");
}

TEST(Cla, ReadsTheLowestOfEachGroup) {
  EXPECT_EQ(text(cla(8, 2)), "0_0_2_2_4_4_6_6");
  EXPECT_EQ(text(cla(7, 3)), "0_0_0_3_3_3_6");
  EXPECT_EQ(text(cla(3, 1)), "0_1_2");
  EXPECT_EQ(text(cla(3, 3)), "0_0_0");
  for (const int n : {1, 2, 3, 4, 6, 12}) EXPECT_EQ(text(cla(12, n)), text(lasagna(12, 12 / n, GroupOwner::kBottom)));
}

TEST(Cla, RefusesGroupsThatDoNotFit) {
  EXPECT_ERROR(cla(8, 0), "cla: groups of 0 layers in a model of 8 layers, expected 1 to 8");
  EXPECT_ERROR(cla(8, -2), "groups of -2 layers");
  EXPECT_ERROR(cla(8, 9), "groups of 9 layers");
  EXPECT_ERROR(cla(8, kHuge), "expected 1 to 8");
}

TEST(Yoco, SlidesBelowAndSharesAbove) {
  const LayerTypes types = yoco(8);
  EXPECT_EQ(text(types), "0s_1s_2s_3s_4_4_4_4");
  EXPECT_EQ(types.window, 16);
  EXPECT_EQ(yoco(8, 1024).window, 1024);
  EXPECT_EQ(text(yoco(5)), "0s_1s_2_2_2");
  EXPECT_EQ(text(yoco(2)), "0s_1");
}

TEST(Yoco, IsPizzaBottomWithWindows) {
  for (int layers = 2; layers < 33; ++layers) {
    const LayerTypes types = yoco(layers);
    EXPECT_EQ(types.target, pizza(layers, layers / 2 + 1, GroupOwner::kBottom).target) << layers;
    for (int layer = 0; layer < layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      EXPECT_EQ(types.sliding[l], layer < layers / 2) << layers << ", layer " << layer;
      EXPECT_EQ(types.sliding[static_cast<std::size_t>(types.target[l])], types.sliding[l])
          << "a reader's rows must not be dropped by a narrower window";
    }
  }
}

TEST(Yoco, RefusesWhatHasNoHalvesOrNoWindow) {
  EXPECT_ERROR(yoco(1), "yoco: a model of 1 layers has no two halves");
  EXPECT_ERROR(yoco(8, 0), "yoco: the window is 0, expected at least 1 token");
  EXPECT_ERROR(yoco(8, -4), "the window is -4");
}

TEST(Pizza, SharesTheTop) {
  EXPECT_EQ(text(pizza(6, 3, GroupOwner::kBottom)), "0_1_2_2_2_2");
  EXPECT_EQ(text(pizza(6, 3, GroupOwner::kMiddle)), "0_1_3_3_3_3");
  EXPECT_EQ(text(pizza(6, 3, GroupOwner::kTop)), "0_1_5_5_5_5");
  EXPECT_EQ(text(pizza(4, 1, GroupOwner::kBottom)), "0_0_0_0");
}

TEST(Sandwich, SharesTheMiddle) {
  EXPECT_EQ(text(sandwich(7, 4, GroupOwner::kBottom)), "0_1_2_2_2_2_6") << "three layers of their own: two below";
  EXPECT_EQ(text(sandwich(7, 4, GroupOwner::kMiddle)), "0_1_3_3_3_3_6");
  EXPECT_EQ(text(sandwich(7, 4, GroupOwner::kTop)), "0_1_5_5_5_5_6");
  EXPECT_EQ(text(sandwich(22, 3, GroupOwner::kMiddle)), with_block("0", "_10", 20, "_21")) << "as published";
  EXPECT_EQ(text(sandwich(4, 1, GroupOwner::kTop)), "3_3_3_3");
}

TEST(Lasagna, SharesInGroups) {
  EXPECT_EQ(text(lasagna(6, 2, GroupOwner::kBottom)), "0_0_0_3_3_3");
  EXPECT_EQ(text(lasagna(6, 2, GroupOwner::kMiddle)), "1_1_1_4_4_4");
  EXPECT_EQ(text(lasagna(6, 2, GroupOwner::kTop)), "2_2_2_5_5_5");
  EXPECT_EQ(text(lasagna(8, 3, GroupOwner::kTop)), "2_2_2_5_5_5_7_7") << "the lower groups have one layer more";
}

TEST(Families, HaveTheKvLayersAskedFor) {
  using Family = LayerTypes (*)(int, int, GroupOwner);
  for (const Family family : {&pizza, &sandwich, &lasagna})
    for (const GroupOwner owner : {GroupOwner::kBottom, GroupOwner::kMiddle, GroupOwner::kTop})
      for (int layers = 1; layers <= 12; ++layers)
        for (int kept = 1; kept <= layers; ++kept) {
          const LayerTypes types = family(layers, kept, owner);
          ASSERT_EQ(types.target.size(), static_cast<std::size_t>(layers));
          EXPECT_EQ(kv_layers(types), static_cast<std::size_t>(kept)) << text(types);
          EXPECT_EQ(std::ranges::count(types.sliding, true), 0);
          for (const int read : types.target)
            EXPECT_EQ(types.target[static_cast<std::size_t>(read)], read) << "an owner reads itself: " << text(types);
          if (kept == layers) {
            EXPECT_EQ(types.target, cla(layers, 1).target) << "nothing is shared";
          }
        }
}

TEST(Families, RefuseImpossibleNumbersOfKvLayers) {
  EXPECT_ERROR(pizza(8, 0, GroupOwner::kTop), "pizza: 0 KV layers for a model of 8 layers, expected 1 to 8");
  EXPECT_ERROR(pizza(8, 9, GroupOwner::kTop), "pizza: 9 KV layers");
  EXPECT_ERROR(sandwich(8, -1, GroupOwner::kTop), "sandwich: -1 KV layers");
  EXPECT_ERROR(sandwich(8, 9, GroupOwner::kTop), "sandwich: 9 KV layers");
  EXPECT_ERROR(lasagna(8, 0, GroupOwner::kTop), "lasagna: 0 KV layers");
  EXPECT_ERROR(lasagna(8, kHuge, GroupOwner::kTop), "expected 1 to 8");
}

// What a family prints is a layer_types string, read back as the same map.
TEST(Families, PrintAsTheirMap) {
  for (const LayerTypes& types : {lckv(22, 10), cla(7, 3), yoco(30), lasagna(24, 5, GroupOwner::kMiddle)}) {
    const std::vector<LayerType> parsed = parse_layer_types(text(types));
    ASSERT_EQ(parsed.size(), types.target.size());
    for (std::size_t layer = 0; layer < parsed.size(); ++layer) {
      EXPECT_EQ(parsed[layer].target, types.target[layer]) << text(types);
      EXPECT_EQ(parsed[layer].sliding, types.sliding[layer]) << text(types);
    }
  }
}

}  // namespace
}  // namespace lamina
