// SPDX-License-Identifier: Apache-2.0
// The probe of KVzip: what is asked, and that nothing but the scores stays of it. (Which rows it keeps, against another
// implementation: kvpress_test.cpp.)
#include "engine/context_probe.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/session.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

class Probe : public ::testing::Test {
 protected:
  Probe() : model_(Model::load(std::string(LAMINA_TESTS) + "/golden/tiny/llama-gqa.gguf", pool_)) {
    for (Token token = 0; token < 90; ++token) prompt_.push_back(3 + token * 7 % 200);
  }

  Session session(const std::string& spec, int batch) {
    const auto parsed = std::make_shared<const KvSpec>(KvSpec::parse(spec, model_.shape()));
    return Session(model_, pool_, {.spec = parsed, .context = 100, .batch = batch});
  }

  // [layer] the positions of the first head, and the logits of a few tokens decoded after the prompt.
  std::pair<std::vector<std::vector<Pos>>, std::vector<float>> run(const std::string& spec, int batch) {
    Session s = session(spec, batch);
    const auto last = s.prompt(prompt_);
    std::vector<float> logits(last.begin(), last.end());
    EXPECT_EQ(s.kv().length(), 90);
    EXPECT_EQ(s.kv().next(), 90);
    std::vector<std::vector<Pos>> held;
    for (int layer = 0; layer < model_.shape().layers; ++layer) {
      held.emplace_back();
      for (const Segment& segment : s.kv().segments(LayerId{layer}).front())
        held.back().insert(held.back().end(), segment.pos, segment.pos + segment.rows());
    }
    for (const Token token : {5, 6, 7}) {
      const auto next = s.decode(token);
      logits.insert(logits.end(), next.begin(), next.end());
    }
    return {held, logits};
  }

  ThreadPool pool_{2};
  Model model_;
  std::vector<Token> prompt_;
};

TEST_F(Probe, AsksForEveryPiece) {
  const Tokenizer tokenizer = load_tokenizer(model_.file());
  const ContextProbe probe(model_);
  const auto whole = probe.texts(prompt_, 90);
  ASSERT_EQ(whole.size(), 1U);
  EXPECT_EQ(tokenizer.decode(std::span(whole[0]).first(whole[0].size() - 90), true),
            "\n\nRepeat the previous context exactly.\n");
  EXPECT_TRUE(std::equal(prompt_.begin(), prompt_.end(), whole[0].end() - 90));
  const auto pieces = probe.texts(prompt_, 40);
  ASSERT_EQ(pieces.size(), 3U);
  std::vector<Token> all;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::ptrdiff_t n = i < 2 ? 40 : 10;
    all.insert(all.end(), pieces[i].end() - n, pieces[i].end());
    EXPECT_LE(pieces[i].size(), static_cast<std::size_t>(ContextProbe::kMostInstruction) + 40);
  }
  EXPECT_EQ(all, prompt_);
  const std::vector<Token> before(prompt_.begin() + 32, prompt_.begin() + 40);  // the last tokens of the piece before
  EXPECT_NE(std::search(pieces[1].begin(), pieces[1].end() - 40, before.begin(), before.end()), pieces[1].end() - 40);
}

TEST_F(Probe, LeavesNothingButTheScores) {
  const auto full = run("f32", 512), whole = run("kvzip(keep=90) + f32", 512);
  EXPECT_EQ(whole, full);
  EXPECT_NE(run("kvzip(keep=20) + f32", 512).first, full.first);
}

TEST_F(Probe, StepsOfAnyLengthScoreAlike) {
  for (const std::string spec : {"kvzip(keep=20)", "kvzip(keep=20,piece=32,share=head)"})
    EXPECT_EQ(run(spec + " + f32", 512), run(spec + " + f32", 11)) << spec;
  EXPECT_NE(run("kvzip(keep=20)", 512).first, run("kvzip(keep=20,piece=32)", 512).first);
}

// Between layers that share rows the one that needs a row most decides; beside methods that look at the prompt.
TEST_F(Probe, GoesWithSharedRowsAndOtherMethods) {
  EXPECT_NE(run("map(0_0_2_2) + kvzip(keep=20)", 64).first, run("kvzip(keep=20)", 64).first);
  const auto mixed = run("tokens(0=kvzip(keep=20),1=snapkv(keep=20,window=8),2=expected(keep=20)) + f32", 64);
  EXPECT_EQ(mixed.first[1], run("snapkv(keep=20,window=8) + f32", 64).first[1]);
  EXPECT_EQ(mixed.first[2], run("expected(keep=20) + f32", 64).first[2]);
  EXPECT_EQ(mixed.first[0], run("kvzip(keep=20) + f32", 64).first[0]);
  EXPECT_EQ(mixed.first[3].size(), 90U);
}

TEST_F(Probe, PeakHoldsTheProbe) {
  Session s = session("kvzip(keep=20) + f32", 512), without = session("keyl2(keep=20) + f32", 512);
  s.prompt(prompt_);
  without.prompt(prompt_);
  EXPECT_GT(s.peak_bytes(), without.peak_bytes() * 3 / 2);
  EXPECT_EQ(s.kv().live_rows(SlotId{0}).size(), without.kv().live_rows(SlotId{0}).size());
  EXPECT_EQ(s.kv().bytes().mass, 0U);
}

}  // namespace
}  // namespace lamina
