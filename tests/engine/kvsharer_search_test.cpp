// SPDX-License-Identifier: Apache-2.0
#include "engine/kvsharer_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/calibration.h"
#include "engine/map_trial.h"
#include "kv/expect_error.h"

namespace lamina {
namespace {

using Targets = std::vector<int>;
using Sentences = std::vector<std::vector<Token>>;

const std::string kGolden = std::string(LAMINA_TESTS) + "/golden/";

Sentences some_sentences(std::size_t count, std::size_t tokens, int vocab) {
  Sentences sentences;
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < count; ++i) {
    sentences.emplace_back();
    while (sentences.back().size() < tokens) {
      state = state * 1664525U + 1013904223U;
      sentences.back().push_back(static_cast<Token>((state >> 8U) % static_cast<std::uint32_t>(vocab)));
    }
  }
  return sentences;
}

OnTrial quiet() {
  return [](const LayerTrial&, int, double) {};
}

class KvSharerSearchTest : public ::testing::TestWithParam<const char*> {
 protected:
  KvSharerSearchTest()
      : model_(Model::load(kGolden + "tiny/" + GetParam() + ".gguf", pool_)),
        sentences_(some_sentences(5, 12, model_.config().vocab)) {}

  // The states of a map by the plain way: every layer of every sentence, one sentence after the other.
  std::vector<float> by_itself(const Targets& target, const std::string& bits, std::size_t prompt) {
    const auto spec = std::make_shared<const KvSpec>(
        KvSpec::parse("map(" + print_layer_types(target) + ",kinds=any) + " + bits, model_.shape()));
    std::vector<float> states;
    for (const auto& sentence : sentences_) {
      BlockPool blocks(model_.shape(), 64U << 20, spec->widest());
      KvSequence sequence(spec, model_.shape(), blocks);
      const auto step = [&](std::size_t first, std::size_t tokens, Phase phase) {
        const Chunk chunk{.kv = &sequence,
                          .tokens = std::span<const Token>(sentence).subspan(first, tokens),
                          .logits = Chunk::Logits::kNone,
                          .prompt = phase != Phase::kDecode};
        StepTrace trace;
        Workspace work;
        model_.record({&chunk, 1}, work, pool_, trace);
        sequence.commit(phase, static_cast<int>(tokens));
        if (phase == Phase::kDecode || prompt == sentence.size())
          states.insert(states.end(), trace.h.begin(), trace.h.end());
      };
      step(0, prompt, Phase::kPromptEnd);
      for (std::size_t t = prompt; t < sentence.size(); ++t) step(t, 1, Phase::kDecode);
    }
    return states;
  }

  KvSpec spec(const std::string& text) const { return KvSpec::parse(text, model_.shape()); }

  Targets identity() const { return own_targets(model_.shape()); }

  KvSharerSearch search(const KvSharerOptions& options, int threads = 2) {
    ThreadPool pool(threads);
    KvSharerSearch found = search_kvsharer(model_, pool, sentences_, options, quiet());
    found.architecture = "tiny";
    found.calibration = {"text.txt", "abc", 5, 12};
    return found;
  }

  ThreadPool pool_{2};
  Model model_;
  Sentences sentences_;
};

TEST_P(KvSharerSearchTest, AResumedMapEqualsItsFullForwardBitForBit) {
  const int last = model_.config().layers - 1;
  MapTrial trial(model_, pool_, sentences_, spec("f32"), MapTrial::Feed::kPrompt);
  EXPECT_EQ(trial.run(identity()), by_itself(identity(), "f32", 12));
  Targets current = identity();
  for (const auto& [layer, source] : {std::pair{last, 1}, {last - 1, 0}, {1, 0}}) {
    const Targets rejected = with_source(current, layer, layer - 1);  // leaves no trace
    EXPECT_EQ(trial.run(rejected), by_itself(rejected, "f32", 12));
    current = with_source(current, layer, source);
    const std::vector<float> states = trial.run(current);
    EXPECT_EQ(states, by_itself(current, "f32", 12));
    trial.adopt(current);
    EXPECT_EQ(trial.run(current), states);
  }
  trial.adopt(with_source(identity(), last, 0));  // one that was not tried before, and back
  EXPECT_EQ(trial.run(with_source(identity(), last, 0)), by_itself(with_source(identity(), last, 0), "f32", 12));
  EXPECT_EQ(trial.run(current), by_itself(current, "f32", 12));
  EXPECT_EQ(trial.run(identity()), by_itself(identity(), "f32", 12));
}

TEST_P(KvSharerSearchTest, HalvesAreCommittedAndFedTokenByToken) {
  sentences_ = some_sentences(3, 90, model_.config().vocab);  // long enough for rows to be encoded and dropped
  for (const char* bits :
       {"k8v8", "streaming(sinks=2,window=20) + k8v4", "k4v4 + grid(16)", "pyramidinfer(keep=0.3,min=4) + f32"}) {
    SCOPED_TRACE(bits);
    MapTrial trial(model_, pool_, sentences_, spec(bits), MapTrial::Feed::kHalves);
    const Targets target = with_source(identity(), 2, 1);
    const std::vector<float> full = trial.run(identity()), states = trial.run(target);
    EXPECT_EQ(full.size(), 3U * 45U * static_cast<std::size_t>(model_.config().hidden));
    EXPECT_NE(full, states);
    if (std::string(bits).find("grid") != std::string::npos) continue;  // by_itself reads a prompt in one step
    EXPECT_EQ(full, by_itself(identity(), bits, 45));
    EXPECT_EQ(states, by_itself(target, bits, 45));
  }
}

TEST_P(KvSharerSearchTest, RowsAreAveragedOverSentences) {
  for (const auto feed : {MapTrial::Feed::kPrompt, MapTrial::Feed::kHalves}) {
    const auto rows = MapTrial(model_, pool_, sentences_, spec("f32"), feed).mean_rows();
    ASSERT_EQ(static_cast<int>(rows.size()), model_.config().layers);
    const auto width = static_cast<std::size_t>(model_.config().kv_heads * model_.config().head_dim);
    std::vector<double> k(12 * width), v(12 * width);
    for (const auto& sentence : sentences_) {
      const auto alone = MapTrial(model_, pool_, {sentence}, spec("f32"), feed).mean_rows();
      for (std::size_t i = 0; i < k.size(); ++i) {
        k[i] += alone[2].k.at(i) / 5;
        v[i] += alone[2].v.at(i) / 5;
      }
    }
    // float32 values, summed in double in two orders
    for (std::size_t i = 0; i < k.size(); ++i) {
      ASSERT_NEAR(rows[2].k[i], k[i], 1e-12);
      ASSERT_NEAR(rows[2].v[i], v[i], 1e-12);
    }
  }
}

TEST_P(KvSharerSearchTest, TheUnsharedMapIsTheSame) {
  MapTrial trial(model_, pool_, sentences_, spec("f32"), MapTrial::Feed::kPrompt);
  const std::vector<float> base = trial.run(identity());
  EXPECT_NEAR(mean_cosine(base, base, 5), 1, 1e-12);
  OutputKl kl(model_, pool_, base);
  EXPECT_EQ(kl(base), 0);
  const std::vector<float> other = trial.run(with_source(identity(), 1, 0));
  EXPECT_GT(kl(other), 0);
  EXPECT_LT(mean_cosine(base, other, 5), 1 - 1e-6);
  std::vector<float> opposite = base;
  for (float& x : opposite) x = -x;
  EXPECT_NEAR(mean_cosine(base, opposite, 5), -1, 1e-12);
}

// Sentences of very different lengths of vectors count alike.
TEST(KvSharerSearch, TheCosineIsTheMeanOverSentences) {
  const std::vector<float> a{1, 0, 100, 0}, b{1, 0, 0, 100}, c{1, 1, 3, 0};
  EXPECT_NEAR(mean_cosine(a, b, 2), 0.5, 1e-15);
  EXPECT_NEAR(mean_cosine(a, c, 2), (std::sqrt(0.5) + 1) / 2, 1e-15);
}

TEST_P(KvSharerSearchTest, FilesDoNotDependOnThreads) {
  for (const auto objective : {KvSharerObjective::kCosine, KvSharerObjective::kKl, KvSharerObjective::kBeam})
    for (const char* kv : {"", "k8v8"}) {
      const KvSharerOptions options{
          .share = 2, .ranking = {.across_kinds = true}, .objective = objective, .threshold = -1, .kv = kv};
      const KvSharerSearch one = search(options, 1), two = search(options, 2);
      EXPECT_EQ(print_kvsharer(one, model_.shape()), print_kvsharer(two, model_.shape()));
      EXPECT_EQ(one.choice.shared(), 2);
    }
}

TEST_P(KvSharerSearchTest, ReportsWhatTheMapDoes) {
  const KvSharerSearch found = search({.share = 2, .threshold = -1});
  ASSERT_EQ(found.choice.shared(), 2);
  EXPECT_EQ(found.cosine, found.choice.accepted.back().score);
  const auto full = by_itself(identity(), "f32", 12);
  EXPECT_EQ(found.cosine, mean_cosine(full, by_itself(found.choice.target, "f32", 12), 5));
  // What was accepted stands in the ranking where its rank says.
  for (const LayerTrial& trial : found.choice.accepted) {
    const LayerPair& pair = found.ranking.at(static_cast<std::size_t>(trial.rank));
    EXPECT_EQ(std::pair(pair.layer, pair.source), std::pair(trial.layer, trial.source));
  }
  EXPECT_TRUE(std::ranges::is_sorted(found.ranking, std::greater(), &LayerPair::distance));
}

TEST_P(KvSharerSearchTest, AnExhaustedRankingKeepsWhatWasFound) {
  const KvSharerSearch none = search({.share = 1, .threshold = 1});
  EXPECT_TRUE(none.exhausted());
  EXPECT_EQ(none.choice.target, identity());
  EXPECT_EQ(none.choice.rejected.size(), none.ranking.size());
  EXPECT_NEAR(none.cosine, 1, 1e-12);
  const KvSharerSearch all =
      search({.share = model_.config().layers - 1, .ranking = {.across_kinds = true}, .threshold = -2});
  EXPECT_FALSE(all.exhausted());
  EXPECT_EQ(all.choice.target, Targets(identity().size(), 0));
}

TEST_P(KvSharerSearchTest, KindsShareOnlyIfAsked) {
  const KvShape shape = model_.shape();
  const auto same = [&](const LayerPair& p) {
    return shape.window(LayerId{p.layer}) == shape.window(LayerId{p.source});
  };
  const KvSharerSearch within = search({.share = 1, .threshold = -2});
  EXPECT_TRUE(std::ranges::all_of(within.ranking, same));
  const KvSharerSearch across = search({.share = 1, .ranking = {.across_kinds = true}, .threshold = -2});
  EXPECT_EQ(static_cast<int>(across.ranking.size()), shape.layers * (shape.layers - 1) / 2);
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count_if(across.ranking, same)), within.ranking.size());
}

TEST_P(KvSharerSearchTest, TheFileIsReadAgain) {
  const KvSharerSearch found = search({.share = 2, .ranking = {.across_kinds = true}, .threshold = -1, .kv = "k8v8"});
  KvShape shape = model_.shape();
  ASSERT_EQ(shape.fingerprint.size(), 64U);
  const std::string text = print_kvsharer(found, shape);
  EXPECT_EQ(parse_kvsharer(text, "s.json", shape), found.choice.target);
  shape.fingerprint[5] = shape.fingerprint[5] == 'a' ? 'b' : 'a';
  EXPECT_ERROR(parse_kvsharer(text, "s.json", shape), "s.json: made for another model");
  shape.fingerprint.clear();  // an unknown model checks nothing and leaves no fingerprint
  EXPECT_EQ(parse_kvsharer(text, "s.json", shape), found.choice.target);
  EXPECT_EQ(print_kvsharer(found, shape).find("shapes_sha256"), std::string::npos);
}

TEST_P(KvSharerSearchTest, RefusesWhatDoesNotFit) {
  const int layers = model_.config().layers;
  EXPECT_ERROR(search({.share = 0}), "0 layers to share, expected 1 to");
  EXPECT_ERROR(search({.share = layers}), "layers to share, expected 1 to");
  EXPECT_ERROR(search({.share = 1, .kv = "cla(2,kinds=any) + k8v8"}), "has a layers term");
  EXPECT_ERROR(search({.share = 1, .kv = "nope"}), "nope");
  EXPECT_ERROR(search({.share = 1, .objective = KvSharerObjective::kKl, .candidates = 0}), "0 candidates");
  sentences_ = {{1}};
  EXPECT_ERROR(search({.share = 1, .kv = "k8v8"}), "cannot be halved");
  EXPECT_ERROR(search({.share = 1, .objective = KvSharerObjective::kKl}), "KL takes one in 4");
}

TEST_P(KvSharerSearchTest, TellsItsTrialsAndCanBeEnded) {
  std::vector<double> scores;
  const KvSharerOptions options{.share = 2, .threshold = -1};
  const auto found = search_kvsharer(model_, pool_, sentences_, options,
                                     [&](const LayerTrial&, int, double last) { scores.push_back(last); });
  ASSERT_EQ(std::ssize(scores), found.choice.tries);
  EXPECT_TRUE(std::isnan(scores.front()));
  EXPECT_EQ(scores[1], found.choice.accepted.front().score);
  const OnTrial stop = [](const LayerTrial&, int, double) { fail("interrupted"); };
  EXPECT_ERROR(search_kvsharer(model_, pool_, sentences_, options, stop), "interrupted");
}

INSTANTIATE_TEST_SUITE_P(Models, KvSharerSearchTest, ::testing::Values("llama-gqa", "gemma3"), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(KvSharerSearch, RefusesAModelThatSharesAlready) {
  ThreadPool pool(1);
  Model model = Model::load(kGolden + "hf/lckv-cyclic", pool);
  EXPECT_ERROR(search_kvsharer(model, pool, some_sentences(2, 8, 100), {.share = 1}, quiet()), "trained to share rows");
}

TEST(Calibration, TakesTheFirstLongEnoughLines) {
  const auto letters = [](std::string_view line) { return std::vector<Token>(line.begin(), line.end()); };
  const std::string text = "abc\nab\r\nabcd\r\n\nxyz";
  EXPECT_EQ(cut_sentences(text, "t", 2, 3, letters), (Sentences{{'a', 'b', 'c'}, {'a', 'b', 'c'}}));
  EXPECT_EQ(cut_sentences(text, "t", 3, 3, letters).back(), (std::vector<Token>{'x', 'y', 'z'}));
  EXPECT_ERROR(cut_sentences(text, "t.txt", 4, 3, letters), "t.txt: 3 lines have 3 tokens or more, expected 4");
  EXPECT_ERROR(cut_sentences("", "t.txt", 1, 1, letters), "t.txt: 0 lines");
}

}  // namespace
}  // namespace lamina
