// SPDX-License-Identifier: Apache-2.0
#include "kv/fading.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace lamina {
namespace {

const KvShape kShape{.layers = 1, .kv_heads = 1, .head_dim = 16};

// A run whose rows fade, beside a list that is looked at as a whole at every step.
class Decoding {
 public:
  explicit Decoding(int prompt) : run_(kShape, pool_.memory().block_bytes, RunLayout()) {
    run_.set_mass_columns(1, 1);
    append(prompt);
  }

  // Rows [position, ...) of random classes. Sums are coarse, so that some are equal.
  void append(int n) {
    std::vector<Pos> pos;
    for (int i = 0; i < n; ++i) {
      pos.push_back(static_cast<Pos>(classes_.size()));
      classes_.push_back(random_() % 8 == 0 ? TokenClass::kPunctuation : TokenClass::kOther);
    }
    run_.grow(pool_, pos);
    for (float& sum : run_.mass()) sum += random_() % 3 == 0 ? 0.5F * static_cast<float>(random_() % 4) : 0;
  }

  std::optional<std::vector<Pos>> fade(const Fade& fade) { return fading_.step(run_, rows(), fade); }

  std::vector<Pos> expected(const Fade& fade) const {
    std::vector<Pos> pos;
    std::vector<float> mass;
    run_.each_living([&](std::uint32_t first, std::uint32_t last) {
      for (std::uint32_t row = first; row < last; ++row) {
        pos.push_back(run_.positions()[row]);
        mass.push_back(run_.mass()[row]);
      }
    });
    Fade whole = fade;
    if (fade.newest > 0) whole.held.local = pos.back() - fade.newest + 1;
    whole.newest = 0;
    const HeadRows list{.pos = pos, .mass = mass, .columns = 1, .classes = classes_};
    Keep keep = every_row(list);
    lamina::fade(list, whole, keep);
    std::vector<Pos> gone;
    for (std::uint32_t row = 0; row < pos.size(); ++row)
      if (!std::ranges::binary_search(keep, row)) gone.push_back(pos[row]);
    return gone;
  }

  void drop(const std::vector<Pos>& gone) {
    std::vector<std::uint32_t> rows;
    for (const Pos pos : gone)
      rows.push_back(
          static_cast<std::uint32_t>(std::ranges::lower_bound(run_.positions(), pos) - run_.positions().begin()));
    run_.drop(pool_, rows);
  }

  Pos length() const { return static_cast<Pos>(classes_.size()); }
  Fading& fading() { return fading_; }

 private:
  HeadRows rows() const {
    return {.pos = run_.positions(), .mass = std::as_const(run_).mass(), .columns = 1, .classes = classes_};
  }

  BlockPool pool_ = BlockPool::counting(kShape);
  Run run_;
  std::vector<TokenClass> classes_;
  std::mt19937 random_{18};
  Fading fading_;
};

struct Case {
  const char* name;
  Fade (*fade)(Pos length);
};

class FadingTest : public testing::TestWithParam<Case> {};

TEST_P(FadingTest, ChoosesAsALookAtAllRowsDoes) {
  Decoding text(400);
  std::size_t gone_rows = 0;
  for (int step = 0; step < 1500; ++step) {
    text.append(step % 50 == 49 ? 3 : 1);
    const Fade fade = GetParam().fade(text.length());
    const auto gone = text.fade(fade);
    ASSERT_TRUE(gone.has_value());
    ASSERT_EQ(*gone, text.expected(fade)) << step;
    text.drop(*gone);
    gone_rows += gone->size();
    ASSERT_LE(text.fading().bytes(), 4096U);
  }
  EXPECT_GT(gone_rows, 500U);
}

constexpr Held kPunctuationHeld{.classes = {false, false, true, false}, .first = true};

INSTANTIATE_TEST_SUITE_P(
    Rules, FadingTest,
    testing::Values(Case{"heavy_and_newest", [](Pos) { return Fade{.budget = 150, .newest = 60}; }},
                    Case{"of_all", [](Pos) { return Fade{.budget = 200}; }},
                    Case{"a_growing_budget_and_classes",
                         [](Pos length) {
                           return Fade{.budget = static_cast<std::size_t>(length) / 4, .held = kPunctuationHeld};
                         }},
                    Case{"local_too",
                         [](Pos length) {
                           Held held = kPunctuationHeld;
                           held.local = length - 100;
                           return Fade{.budget = static_cast<std::size_t>(length) / 5, .held = held};
                         }},
                    Case{"no_budget", [](Pos) { return Fade{.budget = 0, .held = kPunctuationHeld}; }}),
    [](const auto& rule) { return std::string(rule.param.name); });

TEST(Fading, LeavesItToThePolicyWhereNewestRowsAreMissing) {
  Decoding text(40);
  EXPECT_TRUE(text.fade({.budget = 100, .newest = 20}).has_value());
  text.drop({30});
  EXPECT_FALSE(text.fade({.budget = 100, .newest = 20}).has_value());
  EXPECT_FALSE(text.fade({.budget = 100, .newest = 41}).has_value());
  EXPECT_TRUE(text.fade({.budget = 100, .newest = 9}).has_value());
}

}  // namespace
}  // namespace lamina
