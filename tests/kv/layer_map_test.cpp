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

TEST(LayerMap, IdentityWritesAndReadsItsOwnSlots) {
  const LayerMap map = LayerMap::identity(3);
  EXPECT_TRUE(map.identity());
  EXPECT_FALSE(map.lagged());
  EXPECT_EQ(map.slots, 3);
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(map[LayerId{layer}], (Route{.reads = SlotId{layer}, .writes = SlotId{layer}}));
    EXPECT_EQ(map.owner[static_cast<std::size_t>(layer)], LayerId{layer});
  }
  EXPECT_EQ(LayerMap::from_targets(targets("0_1_2")), map);
}

TEST(LayerMap, PairsShareASlot) {
  const LayerMap map = LayerMap::from_targets(targets("0_0_2_2"));
  EXPECT_FALSE(map.identity());
  EXPECT_EQ(map.slots, 2);
  EXPECT_EQ(map.owner, (std::vector{LayerId{0}, LayerId{2}}));
  EXPECT_EQ(map[LayerId{1}], (Route{.reads = SlotId{0}}));
  EXPECT_EQ(map[LayerId{2}], (Route{.reads = SlotId{1}, .writes = SlotId{1}}));
  EXPECT_EQ(map[LayerId{3}], (Route{.reads = SlotId{1}}));
}

// Whether a layer writes depends on its readers alone: layer 1 reads layer 0 and writes for layers 2 and 3.
TEST(LayerMap, AReaderMayWriteForOthers) {
  const LayerMap map = LayerMap::from_targets(targets("0_0_1_1"));
  EXPECT_EQ(map.slots, 2);
  EXPECT_EQ(map[LayerId{1}], (Route{.reads = SlotId{0}, .writes = SlotId{1}}));
  EXPECT_EQ(map[LayerId{3}], (Route{.reads = SlotId{1}}));
  require_runnable(targets("0_0_1_1"), shape(4));
}

TEST(LayerMap, UpwardReadersAreLagged) {
  const LayerMap map = LayerMap::from_targets(targets("1_2s_0"));
  EXPECT_TRUE(map.lagged());
  EXPECT_EQ(map.slots, 3);
  EXPECT_EQ(map[LayerId{0}], (Route{.reads = SlotId{1}, .writes = SlotId{0}, .lagged = true}));
  EXPECT_EQ(map[LayerId{2}], (Route{.reads = SlotId{0}, .writes = SlotId{2}}));
  const LayerMap lckv = LayerMap::from_targets(targets("0_6_6_6_6_6_6_7"));
  EXPECT_EQ(lckv.owner, (std::vector{LayerId{0}, LayerId{6}, LayerId{7}}));
  EXPECT_EQ(lckv[LayerId{3}], (Route{.reads = SlotId{1}, .lagged = true}));
}

TEST(LayerMap, RefusesTargetsOutOfRange) {
  EXPECT_ERROR(LayerMap::from_targets(std::vector{0, 2}), "layer 1 reads layer 2, the model has layers 0..1");
  EXPECT_ERROR(LayerMap::from_targets(std::vector{-1}), "layer 0 reads layer -1, the model has layers 0..0");
}

TEST(LayerMap, RefusesWhatThisVersionCannotRun) {
  EXPECT_ERROR(require_runnable(std::vector{0, 3, 2, 3}, shape(4)),
               "layer 1 reads layer 3 above it, which takes several");
  EXPECT_ERROR(require_runnable(std::vector{1, 0}, shape(2)), "layer 0 reads layer 1 above it");
  EXPECT_ERROR(require_runnable(std::vector{0, 0, 0}, shape(3, {0, 0, 512})),
               "layer 2 with a window of 512 reads layer 0 with no window");
  EXPECT_ERROR(require_runnable(std::vector{0, 0}, shape(2, {256, 512})),
               "layer 1 with a window of 512 reads layer 0 with");
  require_runnable(std::vector{0, 1, 0, 1}, shape(4, {512, 0, 512, 0}));
}

TEST(LayerMap, WindowMarksMustBeTheModelsOwn) {
  const KvShape mixed = shape(4, {512, 0, 512, 0});
  const std::vector<int> expected = {0, 1, 0, 1};
  EXPECT_EQ(targets_from_layer_types("0_1_0_1", mixed), expected);
  EXPECT_EQ(targets_from_layer_types("0s_1_0s_1", mixed), expected);
  EXPECT_ERROR(targets_from_layer_types("0s_1_0_1", mixed), "layer 2 has a sliding window in the model, but no \"s\"");
  EXPECT_ERROR(targets_from_layer_types("0s_1s_0s_1", mixed),
               "layer 1 is marked \"s\", but the model's layer 1 has no");
  EXPECT_ERROR(targets_from_layer_types("0_1_2s_3", shape(4)), "layer 2 is marked \"s\"");
  EXPECT_ERROR(targets_from_layer_types("0_1_0", mixed), "the map has 3 items, the model has 4 layers");
}

}  // namespace
}  // namespace lamina
