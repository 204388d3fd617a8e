// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_heads.h"

#include <algorithm>
#include <cmath>

#include "engine/tune_layers.h"
#include "engine/tune_model.h"

namespace lamina {
namespace {

class TuneHeads : public TuneModel {
 protected:
  std::size_t heads() const { return static_cast<std::size_t>(model_.shape().kv_heads); }
  std::shared_ptr<const KvSpec> of_head(const std::string& text, const HeadCosts& head) const {
    KvSpec parsed = *spec(text);
    parsed.only = OneHead{.layer = LayerId{head.layer}, .head = head.head};
    return std::make_shared<const KvSpec>(std::move(parsed));
  }
};

TEST_P(TuneHeads, EachIsAskedAboutEachAxis) {
  const RowBits bits{.format = "k2v2"};
  const auto methods = token_methods(model_.shape());
  const TokenMethod method = *std::ranges::find(methods, "snapkv", &TokenMethod::name);
  const double shares[] = {0.25};
  const Sensitivity layers = ask_layers(subject(), windows(), {&bits, 1}, {&method, 1}, shares);
  const HeadFolds folds{.bits = bits, .method = method, .keep = 0.25, .source = layers.sharing.source};
  const std::vector<HeadCosts> found = ask_heads(subject(), windows(), folds);
  ASSERT_EQ(found.size(), static_cast<std::size_t>(model_.shape().layers) * heads());
  double bits_left = 0, tokens_left = 0;  // what is not the layer's
  for (std::size_t i = 0; i < found.size(); ++i) {
    const HeadCosts& head = found[i];
    const auto layer = static_cast<std::size_t>(head.layer);
    EXPECT_EQ(layer, i / heads());
    EXPECT_EQ(head.head, static_cast<int>(i % heads()));
    EXPECT_EQ(std::isnan(head.layers), folds.source[layer] == head.layer);
    const double of_layer[] = {layers.bits[0].costs.kl[layer], layers.rows[0].costs.kl[layer],
                               layers.sharing.costs.kl[layer]};
    if (heads() == 1) {
      EXPECT_EQ(head.bits, of_layer[0]);
      EXPECT_EQ(head.tokens, of_layer[1]);
      if (!std::isnan(head.layers)) {
        EXPECT_EQ(head.layers, of_layer[2]);
      }
    } else {  // heads that move the output in directions of their own add up
      bits_left += std::log(head.bits / of_layer[0]);
      tokens_left += std::log(head.tokens / of_layer[1]);
      if (!std::isnan(head.layers)) {
        EXPECT_LT(head.layers, 2 * of_layer[2]);
      }
    }
    // told by decoding, too; a window's few rows are not folded
    for (const auto& [text, kl] : {std::pair(fmt::format("bits({}=k2v2)", head.layer), head.bits),
                                   std::pair(fmt::format("tokens({}=snapkv(keep=0.25))", head.layer), head.tokens)})
      if (i < 2 && kl > 0) {
        EXPECT_NEAR(std::log(kl / decoded_kl(of_head(text, head))), 0, std::log(2)) << text;
      }
  }
  const auto most = [&](double HeadCosts::*kl) { return (*std::ranges::max_element(found, {}, kl)).*kl; };
  EXPECT_GT(most(&HeadCosts::bits), 0);
  EXPECT_GT(most(&HeadCosts::tokens), 0);
  const auto n = static_cast<double>(found.size());
  if (heads() > 1) {
    EXPECT_NEAR(bits_left / n, -std::log(heads()), 0.5);
    EXPECT_NEAR(tokens_left / n, -std::log(heads()), 0.5);
  }
}

TEST_P(TuneHeads, WhatIsNotAskedIsNotANumber) {
  const std::vector<HeadCosts> found = ask_heads(subject(), windows(), {});
  for (const HeadCosts& head : found)
    for (const double kl : {head.bits, head.tokens, head.layers}) EXPECT_TRUE(std::isnan(kl));
}

TEST_P(TuneHeads, NeedsAreOfAllWindows) {
  const auto needs_of = [&](const PromptedWindows& text) {
    std::vector<HeadCosts> needs = ask_heads(subject(), text, {});
    steps_ = 0;
    ask_needs(subject(), text, needs);
    return needs;
  };
  const std::vector<HeadCosts> all = needs_of(windows());
  EXPECT_EQ(steps_, 3);
  std::vector<std::vector<HeadCosts>> alone;  // [window][head]
  for (const auto& window : text_.selection) alone.push_back(needs_of({.windows = {&window, 1}, .prompt = kPrompt}));
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_NEAR(all[i].kept, (alone[0][i].kept + alone[1][i].kept + alone[2][i].kept) / 3, 1e-12);
    EXPECT_GT(all[i].kept, 0);
    EXPECT_LE(all[i].kept, 1 + 1e-12);
    const auto with = [&](const std::string& policy) {
      return std::ranges::count_if(alone, [&](const auto& needs) { return needs[i].policy == policy; });
    };
    for (const auto& needs : alone) EXPECT_GE(with(all[i].policy), with(needs[i].policy));
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, TuneHeads, testing::Values("llama-gqa", "gemma3"), name_of);

}  // namespace
}  // namespace lamina
