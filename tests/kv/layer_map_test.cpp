// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/layer_map.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"

namespace lamina {
namespace {

std::vector<int> targets(std::string_view text) {
  std::vector<int> target;
  for (const LayerType& type : parse_layer_types(text)) target.push_back(type.target);
  return target;
}

KvShape shape(int layers, std::vector<Pos> windows = {}) {
  return {.layers = layers, .kv_heads = 2, .head_dim = 64, .windows = std::move(windows), .fingerprint = {}};
}

TEST(LayerTypes, ReadsTargetsAndWindows) {
  const std::vector<LayerType> types = parse_layer_types("0_0_12s_007");
  ASSERT_EQ(types.size(), 4U);
  EXPECT_EQ(types[2].target, 12);
  EXPECT_TRUE(types[2].sliding);
  EXPECT_EQ(types[3].target, 7);
  EXPECT_FALSE(types[3].sliding);
}

// The strings that the LCKV specification lists as bad syntax, and some more.
TEST(LayerTypes, RefusesBadSyntax) {
  for (const char* bad :
       {"", "0_1t", "0__1", "_0", "0_1_", "-1", "1S", "0_ 1", "0 _1", "s", "1ss", "0x1", "+1", "1.0"}) {
    EXPECT_ERROR(parse_layer_types(bad), "expected a layer number") << bad;
  }
  EXPECT_ERROR(parse_layer_types("0_99999999999"), "layer 1 reads layer 99999999999, which is out of range");
}

LayerMap map_of(std::string_view text) {
  const std::vector<int> target = targets(text);
  return LayerMap::from_targets(target, shape(static_cast<int>(target.size())));
}

TEST(LayerMap, IdentityWritesAndReadsItsOwnSlots) {
  const LayerMap map = map_of("0_1_2");
  EXPECT_FALSE(map.cyclic());
  EXPECT_EQ(map.slots(), 3);
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(map[LayerId{layer}], (Route{.reads = SlotId{layer}, .writes = SlotId{layer}}));
    EXPECT_EQ(map.writers[static_cast<std::size_t>(layer)], std::vector{LayerId{layer}});
  }
  EXPECT_EQ(LayerMap::from_targets(own_targets(shape(3)), shape(3)), map);
}

TEST(LayerMap, PairsShareASlot) {
  const LayerMap map = map_of("0_0_2_2");
  EXPECT_EQ(map.slots(), 2);
  EXPECT_EQ(map.writers, (std::vector<std::vector<LayerId>>{{LayerId{0}}, {LayerId{2}}}));
  EXPECT_EQ(map[LayerId{1}], (Route{.reads = SlotId{0}}));
  EXPECT_EQ(map[LayerId{2}], (Route{.reads = SlotId{1}, .writes = SlotId{1}}));
  EXPECT_EQ(map[LayerId{3}], (Route{.reads = SlotId{1}}));
}

// Whether a layer writes depends on its readers alone: layer 1 reads layer 0 and writes for layers 2 and 3.
TEST(LayerMap, AReaderMayWriteForOthers) {
  const LayerMap map = map_of("0_0_1_1");
  EXPECT_EQ(map.slots(), 2);
  EXPECT_EQ(map[LayerId{1}], (Route{.reads = SlotId{0}, .writes = SlotId{1}}));
  EXPECT_EQ(map[LayerId{3}], (Route{.reads = SlotId{1}}));
  EXPECT_FALSE(map.cyclic());
}

TEST(LayerMap, UpwardReadersAreLagged) {
  const LayerMap map = map_of("1_2_0");
  EXPECT_TRUE(map.cyclic());
  EXPECT_EQ(map.iterations, 9);
  EXPECT_EQ(map.slots(), 3);
  EXPECT_EQ(map[LayerId{0}], (Route{.reads = SlotId{1}, .writes = SlotId{0}, .lagged = true}));
  EXPECT_EQ(map[LayerId{2}], (Route{.reads = SlotId{0}, .writes = SlotId{2}}));
  const LayerMap lckv = map_of("0_6_6_6_6_6_6_7");
  EXPECT_EQ(lckv.writers, (std::vector<std::vector<LayerId>>{{LayerId{0}}, {LayerId{6}}, {LayerId{7}}}));
  EXPECT_EQ(lckv[LayerId{3}], (Route{.reads = SlotId{1}, .lagged = true}));
}

TEST(LayerMap, WithoutTheDiagonalEveryReaderIsLagged) {
  KvShape trained = shape(3);
  trained.no_diagonal = true;
  trained.forward_passes = 4;
  trained.backward_passes = 1;
  const LayerMap map = LayerMap::from_targets(targets("0_2_2"), trained);
  for (const Route& route : map.routes) EXPECT_TRUE(route.lagged);
  EXPECT_EQ(map.iterations, 5);
}

TEST(LayerMap, ASlotKeepsWhatItsWidestReaderSees) {
  const auto window = [](std::string_view text, std::vector<Pos> windows) {
    const std::vector<int> target = targets(text);
    return LayerMap::from_targets(target, shape(static_cast<int>(target.size()), std::move(windows))).window(SlotId{0});
  };
  EXPECT_EQ(window("0_0_0", {8, 16, 4}), 16);
  EXPECT_EQ(window("0_0_0", {8, 0, 4}), 0);  // a reader without a window: rows outside the writer's must stay
  EXPECT_EQ(window("0_1_0", {8, 0, 4}), 8);
}

TEST(LayerMap, TheLayersOfAPairShareASlotOfTwoViews) {
  const std::pair<int, int> pairs[] = {{1, 3}};
  const LayerMap map = LayerMap::from_pairs(pairs, shape(5, {0, 16, 0, 16, 0}));
  EXPECT_EQ(map.writers,
            (std::vector<std::vector<LayerId>>{{LayerId{0}}, {LayerId{1}, LayerId{3}}, {LayerId{2}}, {LayerId{4}}}));
  EXPECT_EQ(map[LayerId{1}], (Route{.reads = SlotId{1}, .writes = SlotId{1}, .window = 16}));
  EXPECT_EQ(map[LayerId{3}], (Route{.reads = SlotId{1}, .writes = SlotId{1}, .view = 1, .window = 16}));
  EXPECT_EQ(map.views(SlotId{1}), 2);
  EXPECT_EQ(map.views(SlotId{2}), 1);
}

TEST(LayerMap, RefusesTargetsOutOfRange) {
  EXPECT_ERROR(map_of("0_2"), "layer 1 reads layer 2, the model has layers 0..1");
}

TEST(LayerMap, LayersOfDifferentKindsDoNotShareUnasked) {
  EXPECT_ERROR(require_shareable(std::vector{0, 0, 0}, shape(3, {0, 0, 512}), false),
               "layer 2 with a window of 512 reads layer 0 with no window; layers of different kinds share rows only");
  require_shareable(std::vector{0, 0, 0}, shape(3, {0, 0, 512}), true);
  require_shareable(std::vector{0, 1, 0, 1}, shape(4, {512, 0, 512, 0}), false);
}

TEST(LayerMap, RefusesToReadLayersWithoutWeights) {
  KvShape trained = shape(4);
  trained.targets = {0, 0, 2, 2};
  EXPECT_ERROR(require_shareable(std::vector{0, 1, 2, 2}, trained, false),
               "layer 1 reads layer 1, which has no K and V weights in this model (it was trained to read layer 0)");
  require_shareable(std::vector{0, 0, 0, 0}, trained, false);
}

}  // namespace
}  // namespace lamina
