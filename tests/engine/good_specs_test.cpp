// SPDX-License-Identifier: Apache-2.0
#include "engine/good_specs.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/tune_specs.h"

namespace lamina {
namespace {

KvShape gemma() {  // most of whose layers have a window
  KvShape shape{.layers = 6, .kv_heads = 1, .head_dim = 256, .query_group = 4};
  for (int layer = 0; layer < shape.layers; ++layer) shape.windows.push_back(layer % 6 == 5 ? 0 : 512);
  return shape;
}

TEST(GoodSpecsTest, FillTheirShareOnEveryModel) {
  const KvShape smollm2{.layers = 6, .kv_heads = 3, .head_dim = 64, .query_group = 3};
  for (const KvShape& shape : {smollm2, gemma()}) {
    const ByteBudget budget{.shape = shape, .prompt = 1024, .decoded = 64};
    std::size_t all = 0, left_out = 0;
    for (const int percent : good_shares()) {
      const GoodSpecs good = good_specs(percent, shape, 1024, 64);
      EXPECT_GE(good.specs.size(), 2U) << percent;
      all += good.specs.size(), left_out += good.left_out.size();
      for (const auto& spec : good.specs) {
        const double share = 100 * static_cast<double>(budget.bytes(spec)) / static_cast<double>(budget.dense());
        EXPECT_LE(share, percent) << spec->text();
        // Formats take what they take; a token method is sized, in steps of a tile of rows.
        EXPECT_GE(share, (axes_of(*spec, shape).tokens ? 0.75 : 0.6) * percent) << spec->text();
      }
    }
    EXPECT_EQ(good_specs(0, shape, 1024, 64).specs.size(), all + 1);  // and k8v8
    EXPECT_EQ(good_specs(0, shape, 1024, 64).left_out.size(), left_out);
  }
  EXPECT_EQ(good_shares(), (std::vector<int>{50, 33, 25, 12}));
  EXPECT_TRUE(good_specs(40, smollm2, 1024, 64).specs.empty());
}

TEST(GoodSpecsTest, SayWhatIsLeftOutAndWhy) {
  // KVzip is for layers without a window: the others keep what they have.
  const GoodSpecs few = good_specs(12, gemma(), 1024, 64);
  ASSERT_EQ(few.left_out.size(), 1U);
  EXPECT_TRUE(few.left_out[0].starts_with("kvzip + ")) << few.left_out[0];
  EXPECT_NE(few.left_out[0].find(" of 12 %: it takes at least "), std::string::npos) << few.left_out[0];
  KvShape slides = gemma();
  slides.windows.assign(slides.windows.size(), 512);
  EXPECT_NE(good_specs(12, slides, 1024, 64).left_out.at(0).find("layers without a window"), std::string::npos);
  // What does not work with the model is told in the spec's own words: here a layer reads a higher one.
  const KvShape upward{
      .layers = 4, .kv_heads = 2, .head_dim = 64, .query_group = 2, .targets = {0, 3, 3, 3}, .no_diagonal = true};
  const GoodSpecs rest = good_specs(25, upward, 1024, 64);
  ASSERT_FALSE(rest.left_out.empty());
  EXPECT_NE(rest.left_out[0].find("several times"), std::string::npos) << rest.left_out[0];
}

}  // namespace
}  // namespace lamina
