// SPDX-License-Identifier: Apache-2.0
// A profile counts what a forward pass does, adds up to the time that it takes, and changes no bit of its results.
#include "model/profile.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/attend.h"
#include "model/forward.h"

namespace lamina {
namespace {

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

struct Played {
  Profile profile;
  std::vector<float> logits;  // of all steps
  double seconds = 0;         // of the forward passes
};

// A prompt in one step, then tokens one by one.
Played run(Model& model, ThreadPool& pool, const std::string& text, int prompt, int decoded, bool profiled = true) {
  const auto spec = std::make_shared<KvSpec>(KvSpec::parse(text, model.shape()));
  BlockPool blocks(model.shape(), std::size_t{1} << 28);
  KvSequence kv(spec, model.shape(), blocks);
  std::vector<Token> tokens(static_cast<std::size_t>(prompt + decoded));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(3 + i % 200);
  Played played;
  Workspace work;
  work.profile = profiled ? &played.profile : nullptr;
  kv.expect_prompt(prompt);
  for (int done = 0; done < prompt + decoded;) {
    const bool is_prompt = done < prompt;
    const int n = is_prompt ? prompt : 1;
    const Chunk chunk{.kv = &kv,
                      .tokens = std::span(tokens).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)),
                      .prompt = is_prompt};
    const Stopwatch watch;
    const auto logits = model.forward({&chunk, 1}, work, pool);
    played.seconds += watch.seconds();
    played.logits.insert(played.logits.end(), logits.begin(), logits.end());
    kv.commit(is_prompt ? Phase::kPromptEnd : Phase::kDecode, n);
    done += n;
  }
  return played;
}

class ProfileOf : public testing::TestWithParam<const char*> {
 protected:
  ThreadPool pool_{2};
  Model model_ = Model::load(kTiny + GetParam() + ".gguf", pool_);
};

INSTANTIATE_TEST_SUITE_P(Tiny, ProfileOf, testing::Values("llama-gqa", "gemma3"),
                         [](const auto& test) { return std::string(test.param).substr(0, 5); });

TEST_P(ProfileOf, ChangesNoBit) {
  for (const char* spec : {"full", "k8v8", "h2o(heavy=0.25,recent=0.25)"})
    EXPECT_EQ(run(model_, pool_, spec, 40, 5).logits, run(model_, pool_, spec, 40, 5, false).logits) << spec;
}

TEST_P(ProfileOf, CallsAndWorkOfProducts) {
  const ModelConfig& c = model_.config();
  const Weights& w = model_.weights();
  const Profile p = run(model_, pool_, "full", 40, 5).profile;
  const double steps = 6, tokens = 45, layers = c.layers, hidden = c.hidden, ffn = c.ffn;
  const double q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const auto expect = [&](Op op, double bytes, double weights) {  // of a layer
    EXPECT_EQ(p[op].calls, steps * layers) << name(op);
    EXPECT_EQ(p[op].work.bytes, steps * layers * bytes) << name(op);
    EXPECT_EQ(p[op].work.ops(), 2 * tokens * layers * weights) << name(op);
    EXPECT_GT(p[op].seconds, 0) << name(op);
  };
  const auto bytes = [](auto... matrix) { return static_cast<double>((matrix->bytes() + ...)); };
  const LayerWeights& l = w.layers.front();
  expect(Op::kQkv, bytes(&l.q, &l.k, &l.v), hidden * (q + 2 * kv));
  expect(Op::kOutput, bytes(&l.o), q * hidden);
  expect(Op::kGateUp, bytes(&l.gate, &l.up), 2 * hidden * ffn);
  expect(Op::kDown, bytes(&l.down), ffn * hidden);
  EXPECT_EQ(p[Op::kHead].calls, steps);
  EXPECT_EQ(p[Op::kHead].work.ops(), 2 * steps * hidden * c.vocab);  // the last token of each step
  EXPECT_EQ(p[Op::kQuantize].calls, steps * (4 * layers + 1));
  EXPECT_EQ(p[Op::kActivate].calls, steps * layers);
  EXPECT_EQ(p[Op::kEmbed].calls, steps);
  EXPECT_EQ(p[Op::kAppend].calls, steps * layers);
  EXPECT_EQ(p[Op::kCommit].calls, 0) << "whoever commits counts";
}

// f16 rows in tiles of 16: a call reads each tile of keys and of values once.
TEST_P(ProfileOf, AttentionCountsWhatIsVisible) {
  const ModelConfig& c = model_.config();
  const int prompt = 40, decoded = 5;
  const Profile p = run(model_, pool_, "full", prompt, decoded).profile;
  double pairs[2] = {}, tiles[2] = {};  // [decode]: of all layers
  for (const Pos window : c.windows)
    for (int pos = 0; pos < prompt + decoded; ++pos) {
      const int first = window > 0 ? std::max(0, pos - window + 1) : 0;
      pairs[pos >= prompt] += pos + 1 - first;
      // as the store has it: rows before a window's begin are gone, and those that stay keep their place
      if (pos >= prompt || pos + 1 == prompt) tiles[pos >= prompt] += pos / 16 + 1 - (pos < prompt ? 0 : first / 16);
    }
  const double tile = 2.0 * c.kv_heads * padded_dim(c.head_dim) * 16 * 2;
  for (const Op op : {Op::kAttendPrompt, Op::kAttendDecode}) {
    const bool decode = op == Op::kAttendDecode;
    EXPECT_EQ(p[op].calls, c.layers * (decode ? decoded : 1));
    EXPECT_EQ(p[op].work.f32_ops, 4 * pairs[decode] * c.heads * c.head_dim);
    EXPECT_EQ(p[op].work.int_ops, 0);
    EXPECT_EQ(p[op].work.bytes, tiles[decode] * tile);
  }
}

// Decode multiplies codes as they are stored, by two digits; all but the last 16 to 31 rows of 120 are codes. A prompt
// meets its first 128 rows as floats, later ones as bytes.
TEST_P(ProfileOf, CodesAreIntegerWork) {
  const Profile p = run(model_, pool_, "k8v8", 120, 1).profile, full = run(model_, pool_, "full", 120, 1).profile;
  EXPECT_EQ(p[Op::kAttendPrompt].work.int_ops, 0);
  const Work &codes = p[Op::kAttendDecode].work, &rows = full[Op::kAttendDecode].work;
  EXPECT_GT(codes.int_ops, 0);
  EXPECT_GT(codes.f32_ops, 0);
  EXPECT_EQ(codes.f32_ops + codes.int_ops / 2, rows.ops());
  EXPECT_LT(codes.bytes, rows.bytes);
  const Work work = run(model_, pool_, "full", 200, 1).profile[Op::kAttendPrompt].work;
  EXPECT_EQ(work.int_ops > 0, attend_kernels(chosen_isa()).fast_bytes);
}

// Operations do not overlap, so their times are at most the whole. What is left is work lists and bookkeeping: little,
// unless the machine does something else just then, which it does not do every time.
TEST_P(ProfileOf, PartsAddUpToTheWhole) {
  double most = 0;
  for (int i = 0; i < 5 && most < 0.5; ++i) {
    const Played played = run(model_, pool_, "full", 300, 20);
    EXPECT_LE(played.profile.sum().seconds, played.seconds);
    most = std::max(most, played.profile.sum().seconds / played.seconds);
  }
  EXPECT_GE(most, 0.5);
}

TEST(ProfileOfMap, LayersThatReadOthersComputeNoKeys) {
  ThreadPool pool(1);
  Model model = Model::load(kTiny + "llama-gqa.gguf", pool);
  const ModelConfig& c = model.config();
  const Profile p = run(model, pool, "map(0_0_2_2)", 10, 1).profile;
  const double q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  EXPECT_EQ(p[Op::kQkv].work.ops(), 2.0 * 11 * c.hidden * (4 * q + 2 * 2 * kv));
}

}  // namespace
}  // namespace lamina
