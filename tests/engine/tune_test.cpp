// SPDX-License-Identifier: Apache-2.0
// The parts of tune that run a model, on tiny random ones.
#include "engine/tune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "engine/score.h"
#include "engine/statistics.h"
#include "engine/tune_model.h"

namespace lamina {
namespace {

TEST(TuneText, WindowsAreDisjointAndBothPartsAreSpread) {
  std::vector<Token> text(10'000);
  std::iota(text.begin(), text.end(), 0);
  const TuneText cut = cut_tune_text(text, {.prompt = 90, .scored = 10}, std::nullopt);
  ASSERT_EQ(cut.selection.size(), 4U);
  ASSERT_EQ(cut.held_out.size(), 8U);
  std::set<Token> seen;
  for (const auto& part : {cut.selection, cut.held_out})
    for (const auto& window : part) {
      ASSERT_EQ(window.size(), 100U);
      EXPECT_EQ(window.back() - window.front(), 99);
      for (const Token token : window) EXPECT_TRUE(seen.insert(token).second) << token;
    }
  for (const auto& part : {cut.selection, cut.held_out}) {  // neither is one end of the text
    EXPECT_LT(part.front().front(), 3000);
    EXPECT_GT(part.back().front(), 7000);
  }
}

TEST(TuneText, AShortOneGivesFewerWindows) {
  const TuneText cut = cut_tune_text(std::vector<Token>(650), {.prompt = 90, .scored = 10}, 99);
  EXPECT_EQ(cut.selection.size(), 2U);
  EXPECT_EQ(cut.held_out.size(), 4U);
  EXPECT_EQ(cut.held_out.front().front(), 99);  // BOS
  try {
    cut_tune_text(std::vector<Token>(399), {.prompt = 90, .scored = 10}, std::nullopt);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "the text has 399 tokens, expected at least 400: 2 windows of 100 to select on and as many held out");
  }
}

// Specs that do nothing between decoded tokens are told alike, whether those come in one step or one by one.
TEST_P(TuneModel, OneStepTellsWhatDecodingTells) {
  const std::vector<std::shared_ptr<const KvSpec>> specs = {spec("full"), spec("k4v4"), spec("snapkv(keep=0.25)"),
                                                            spec("k2v2 + rotate")};
  const std::vector<double> fast = one_step_kl(subject(), specs, windows());
  EXPECT_EQ(steps_, 15);  // with the dense cache
  EXPECT_EQ(fast[0], 0);
  for (std::size_t i = 1; i < specs.size(); ++i) {
    const double slow = decoded_kl(specs[i]);
    EXPECT_GT(slow, 0);
    // one scores the token before the step, the other the one after it, and rows of the step are not encoded in it
    EXPECT_NEAR(std::log(fast[i] / slow), 0, std::log(2)) << specs[i]->text() << ' ' << fast[i] << ' ' << slow;
  }
}

TEST_P(TuneModel, LayersAreAskedOneByOne) {
  const std::vector<RowBits> bits = {{.format = "k2v2"}, {.format = "k4v4", .rotate = true}};
  const auto all = token_methods(model_.shape());
  const std::vector<TokenMethod> methods = {*std::ranges::find(all, "snapkv", &TokenMethod::name)};
  const double shares[] = {0.25};
  const Sensitivity found = ask_layers(subject(), windows(), bits, methods, shares);
  ASSERT_EQ(found.bits.size(), 2U);
  ASSERT_EQ(found.rows.size(), 1U);
  const auto layers = static_cast<std::size_t>(model_.shape().layers);
  for (const LayerCosts& costs : {found.bits[0].costs, found.rows[0].costs}) {
    ASSERT_EQ(costs.kl.size(), layers);
    for (const double kl : costs.kl) EXPECT_LE(kl, costs.together);
    EXPECT_GT(*std::ranges::max_element(costs.kl), 0);
  }
  EXPECT_GT(steps_, 9 * static_cast<int>(layers));

  const SharingCosts& sharing = found.sharing;
  EXPECT_TRUE(std::isnan(sharing.costs.kl.front()));
  const KvShape shape = model_.shape();
  for (int layer = 1; layer < shape.layers; ++layer) {
    const int source = sharing.source[static_cast<std::size_t>(layer)];
    EXPECT_EQ(std::isnan(sharing.costs.kl[static_cast<std::size_t>(layer)]), source == layer);
    EXPECT_LE(source, layer);
    EXPECT_EQ(shape.window(LayerId{source}), shape.window(LayerId{layer}));
  }
  for (const int count : {0, 1, 2}) {
    const std::vector<int> map = share_cheapest(sharing, count);
    int shared = 0;
    for (int layer = 0; layer < shape.layers; ++layer) shared += map[static_cast<std::size_t>(layer)] != layer;
    EXPECT_LE(shared, count);
    EXPECT_NO_THROW(LayerMap::from_targets(map, shape));
  }
}

class TuneWhole : public TuneModel {};

TEST_P(TuneWhole, TheChoiceFitsAndIsTheBestOfWhatItShows) {
  const std::size_t dense = ByteBudget{.shape = model_.shape(), .prompt = kPrompt, .decoded = kScored}.dense();
  const std::size_t most = dense * 4 / 5;
  double last = 0;
  const TuneOptions options{.most_bytes = most, .context = kPrompt + kScored};
  const TuneResult result = tune(subject(), text_, options, [&](std::string_view, double share) {
    EXPECT_GE(share, last);
    EXPECT_LE(share, 1);
    last = share;
  });
  EXPECT_GT(last, 0.3);
  EXPECT_EQ(result.dense_bytes, dense);
  ASSERT_GE(result.finalists, 3U);
  bool tokens = false, bits = false;
  std::size_t largest = 0;  // of methods, whose bytes in windows are not those planned
  for (std::size_t i = 0; i < result.alternatives.size(); ++i) {
    const Alternative& a = result.alternatives[i];
    EXPECT_LE(a.candidate.bytes, most) << a.candidate.spec->text();
    EXPECT_EQ(a.is_finalist(), i < result.finalists);
    EXPECT_EQ(a.held_out.kl.size(), a.is_finalist() ? 3U : 0U);
    if (a.candidate.axes == Axes{.tokens = true}) largest = std::max(largest, a.candidate.bytes);
    tokens = tokens || (a.is_finalist() && a.candidate.axes == Axes{.tokens = true});
    bits = bits || (a.is_finalist() && a.candidate.axes == Axes{.bits = true});
  }
  EXPECT_GT(largest, most * 9 / 10);
  EXPECT_TRUE(tokens && bits);  // the best of each axis is there to the end
  EXPECT_LT(result.decision.chosen, result.finalists);
  EXPECT_NEAR(mean(result.chosen().selection.kl), decoded_kl(result.chosen().candidate.spec), 1e-12);
}

TEST_P(TuneWhole, NothingFitsAFewBytes) {
  EXPECT_THROW(tune(subject(), text_, {.most_bytes = 10, .context = kPrompt + kScored}, [](auto, double) {}), Error);
}

INSTANTIATE_TEST_SUITE_P(Tiny, TuneModel, testing::Values("llama-gqa", "gemma3"), name_of);
INSTANTIATE_TEST_SUITE_P(Tiny, TuneWhole, testing::Values("gemma3"), name_of);  // the program's test has the other

}  // namespace
}  // namespace lamina
