// SPDX-License-Identifier: Apache-2.0
// KvSpec::only: what a spec says of a layer, said of one of its KV heads.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "kv/sequence.h"
#include "reference.h"
#include "stored_rows.h"

namespace lamina {
namespace {

constexpr Pos kPrompt = 100;
constexpr int kDecoded = 3;
const KvShape kShape{.layers = 3, .kv_heads = 3, .head_dim = 32, .query_group = 2};

using Rows = std::map<Pos, std::pair<std::vector<double>, std::vector<double>>>;  // by position: key, value

std::vector<Rows> rows_of(KvSequence& kv, LayerId layer) {
  std::vector<Rows> heads;
  for (const std::span<const Segment> segments : kv.segments(layer)) {
    Rows& rows = heads.emplace_back();
    for (reference::Row& row : reference::decoded(kv.memory(), kShape.head_dim, segments))
      if (!row.dead) {
        EXPECT_TRUE(rows.emplace(row.pos, std::pair(std::move(row.key), std::move(row.value))).second);
      }
  }
  return heads;
}

class OneHeadOfALayer : public testing::TestWithParam<const char*> {
 protected:
  static std::shared_ptr<const KvSpec> spec(const std::string& text, std::optional<OneHead> only) {
    KvSpec parsed = KvSpec::parse(text, kShape);
    parsed.only = only;
    return std::make_shared<const KvSpec>(std::move(parsed));
  }

  // A prompt and some decoded tokens, always the same.
  KvSequence fed(const std::shared_ptr<const KvSpec>& spec) {
    KvSequence kv(spec, kShape, pool_);
    std::mt19937 random(1);
    const auto width = static_cast<std::size_t>(kShape.kv_heads * kShape.head_dim);
    kv.expect_prompt(kPrompt);
    for (int step = 0; step <= kDecoded; ++step) {
      const int tokens = step == 0 ? kPrompt : 1;
      for (int layer = 0; layer < kShape.layers; ++layer) {
        const std::vector<float> k = random_floats(random, static_cast<std::size_t>(tokens) * width),
                                 v = random_floats(random, static_cast<std::size_t>(tokens) * width);
        kv.append(LayerId{layer}, kv.next(), tokens, k.data(), v.data());
      }
      kv.commit(step == 0 ? Phase::kPromptEnd : Phase::kDecode, tokens);
    }
    return kv;
  }

  BlockPool pool_{kShape, 8U << 20, Format::kF32};
};

TEST_P(OneHeadOfALayer, TheOthersStayWhatTheyAre) {
  KvSequence dense = fed(spec("full", std::nullopt)), folded = fed(spec(GetParam(), std::nullopt));
  for (int head = 0; head < kShape.kv_heads; ++head) {
    KvSequence kv = fed(spec(GetParam(), OneHead{.layer = LayerId{1}, .head = head}));
    for (int layer = 0; layer < kShape.layers; ++layer) {
      const std::vector<Rows> found = rows_of(kv, LayerId{layer}), plain = rows_of(dense, LayerId{layer}),
                              other = rows_of(folded, LayerId{layer});
      ASSERT_EQ(found.size(), plain.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        EXPECT_EQ(found[i], layer == 1 && i == static_cast<std::size_t>(head) ? other[i] : plain[i])
            << "layer " << layer << ", head " << i << " of " << head;
    }
    EXPECT_NE(rows_of(folded, LayerId{1}), rows_of(dense, LayerId{1}));
    KvSequence copy = kv.fork();
    EXPECT_EQ(rows_of(copy, LayerId{1}), rows_of(kv, LayerId{1}));
  }
}

INSTANTIATE_TEST_SUITE_P(Folds, OneHeadOfALayer,
                         testing::Values("bits(1=k4v4)", "bits(1=k8v4)", "bits(1=kivi4(residual=32))",
                                         "tokens(1=window(sinks=4,window=32))", "tokens(1=keyl2(keep=0.5))",
                                         "tokens(1=random(keep=0.5))", "tokens(1=keydiff(keep=0.25))",
                                         "tokens(1=window(sinks=4,window=32)) + bits(1=k4v4)"));

TEST_F(OneHeadOfALayer, ReadsAnotherLayersHead) {
  KvSequence dense = fed(spec("full", std::nullopt));
  for (int head = 0; head < kShape.kv_heads; ++head) {
    KvSpec reading = *spec("full", OneHead{.layer = LayerId{2}, .head = head});
    reading.layers.routes[2].reads = *reading.layers[LayerId{0}].writes;
    KvSequence kv = fed(std::make_shared<const KvSpec>(std::move(reading)));
    std::vector<Rows> expected = rows_of(dense, LayerId{2});
    expected[static_cast<std::size_t>(head)] = rows_of(dense, LayerId{0})[static_cast<std::size_t>(head)];
    EXPECT_EQ(rows_of(kv, LayerId{2}), expected);
    EXPECT_EQ(rows_of(kv, LayerId{0}), rows_of(dense, LayerId{0}));
  }
}

}  // namespace
}  // namespace lamina
