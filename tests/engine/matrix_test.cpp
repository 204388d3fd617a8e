// SPDX-License-Identifier: Apache-2.0
// Every layer map x token policy x format, on a tiny model of each architecture: what must hold of all of them.
// (Row by row, tests/kv/sequence_test.cpp holds each against a naive model of the store.)
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "engine/context_probe.h"
#include "engine/session.h"
#include "kv/tokens/registry.h"

namespace lamina {
namespace {

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

const char* const kBits[] = {"f32", "f16", "bf16", "k8v8", "k8v4", "k4v4", "k4v2", "kivi4(residual=32)"};
const char* const kTokens[] = {"",
                               "streaming(sinks=2,window=9)",
                               "window(sinks=2,window=9)",
                               "window(keep=50%)",
                               "h2o(heavy=5,recent=4)",
                               "snapkv(keep=12,window=4,kernel=3,every=6)",
                               "pyramidinfer(keep=0.3,min=4)",
                               "expected(keep=14,future=20)",
                               "keydiff(keep=14)",
                               "kvzip(keep=14,share=head)"};
const char* const kGrids[] = {"", "grid(16)"};

enum class Layers { kOwn, kPairsShare, kStrategy, kMiniCache, kMiniCacheValues, kLckv, kUpward };
const char* const kLayersNames[] = {"own", "map", "kvsharer", "minicache", "minicache_values", "lckv", "upward"};

bool merges(Layers layers) { return layers == Layers::kMiniCache || layers == Layers::kMiniCacheValues; }
bool reads_upward(Layers layers) { return layers == Layers::kLckv || layers == Layers::kUpward; }

std::string join(const std::string& a, const std::string& b) { return a + (a.empty() || b.empty() ? "" : " + ") + b; }

class SpecMatrix : public ::testing::TestWithParam<std::tuple<const char*, Layers>> {
 protected:
  void SetUp() override {
    const std::string name = std::get<0>(GetParam());
    model_ = std::make_unique<Model>(Model::load(kTiny + name + ".gguf", two_));
    tokens_ = nlohmann::json::parse(std::ifstream(kTiny + name + ".json")).at("tokens").get<std::vector<Token>>();
    while (tokens_.size() < 60) tokens_.push_back(tokens_[tokens_.size() - 37]);
    layers_ = std::get<1>(GetParam());
    term_ = term();
  }

  std::string term() const {
    switch (layers_) {
      case Layers::kOwn:
        return "";
      case Layers::kMiniCache:
        return "minicache(start=0.0)";
      case Layers::kMiniCacheValues:
        return "minicache(start=0.0,of=v,vector=head,rule=top)";
      case Layers::kLckv:
        return "lckv(w=0,kinds=any)";
      case Layers::kUpward:
        return upward_map();
      default:
        return shared_pairs();
    }
  }

  // Layer 1 reads layer 2, and the topmost what its neighbour has.
  std::string upward_map() const {
    const int layers = model_->shape().layers;
    std::string map;
    for (int layer = 0; layer < layers; ++layer)
      map += fmt::format("{}{}", layer > 0 ? "_" : "", layer == 1 ? 2 : layer + 1 == layers ? layer - 1 : layer);
    return fmt::format("map({},kinds=any)", map);
  }

  // Odd layers read the one below, where their windows allow it: as a map, or the same from a strategy file.
  std::string shared_pairs() const {
    const KvShape shape = model_->shape();
    nlohmann::json targets = nlohmann::json::array();
    std::string notation;
    for (int layer = 0; layer < shape.layers; ++layer) {
      const bool shares = layer % 2 == 1 && shape.window(LayerId{layer}) == shape.window(LayerId{layer - 1});
      targets.push_back(shares ? layer - 1 : layer);
      if (layer > 0) notation += '_';
      notation += std::to_string(targets.back().get<int>());
    }
    if (layers_ == Layers::kPairsShare) return "map(" + notation + ")";
    const std::string path = ::testing::TempDir() + "matrix_" + std::get<0>(GetParam()) + ".json";
    std::ofstream(path) << nlohmann::json{{"schema", "lamina.kvsharer/1"}, {"map", targets}};
    return "kvsharer(map=" + path + ")";
  }

  std::shared_ptr<const KvSpec> parse(const std::string& text) const {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, model_->shape(), UpwardMaps::kAny));
  }

  struct Result {
    std::vector<float> prompt, decode;  // logits
    KvBytes bytes;
    std::size_t peak;
  };

  Result run(const std::shared_ptr<const KvSpec>& spec, int batch, ThreadPool& pool, std::size_t prompt = kPrompt) {
    Session session(*model_, pool, {.spec = spec, .context = 100, .batch = batch});
    Result result;
    if (prompt > 0 && spec->prunes()) {
      const auto logits = session.prompt(std::span(tokens_).first(prompt));
      result.prompt.assign(logits.begin(), logits.end());
    } else if (prompt > 0) {
      session.score(std::span(tokens_).first(prompt), [&](std::size_t, std::span<const float> logits) {
        result.prompt.insert(result.prompt.end(), logits.begin(), logits.end());
      });
    }
    for (std::size_t t = prompt; t < tokens_.size(); ++t) {
      const auto logits = session.decode(tokens_[t]);
      result.decode.insert(result.decode.end(), logits.begin(), logits.end());
    }
    result.bytes = session.kv().bytes();
    result.peak = session.peak_bytes();
    return result;
  }

  bool is_refused(std::string_view tokens, std::string_view bits, std::string_view grid) const;
  void expect_holds(const std::string& tokens, const std::string& bits, const std::string& grid);
  void expect_planned(const std::shared_ptr<const KvSpec>& spec, const Result& result);

  static constexpr std::size_t kPrompt = 45;
  ThreadPool one_{1}, two_{2};
  std::unique_ptr<Model> model_;
  std::vector<Token> tokens_;
  Layers layers_{};
  std::string term_;
};

// Passes would count a query several times; what is merged is no layer's own; a probe comes after the whole prompt, of
// which layers with a window hardly see anything then; keys that share scales cannot lose rows from the midst of a
// group; what leaves layers other rows needs them apart, and a prompt at once.
bool SpecMatrix::is_refused(std::string_view tokens, std::string_view bits, std::string_view grid) const {
  if (tokens.empty()) return false;
  const auto policy = make_token_policy(parse_terms(tokens).at(0));
  const bool reads = policy->reads_keys(Phase::kPromptEnd) || policy->reads_rows(Phase::kPromptEnd),
             probes = policy->probes() > 0, prunes = policy->prunes(),
             observes = policy->observes({.phase = Phase::kPrompt, .prompt_end = 1}).any(),
             again = policy->selects({.phase = Phase::kDecode, .length = 100, .appended = 50}),
             on_the_way = !grid.empty() && policy->selects({.phase = Phase::kPrompt, .length = 16});
  const bool windows = std::ranges::any_of(model_->shape().windows, [](Pos window) { return window > 0; });
  return (reads_upward(layers_) && observes) || (merges(layers_) && (prunes || reads)) || (probes && windows) ||
         ((probes || prunes) && !grid.empty()) ||
         (bits.starts_with("kivi") && !policy->oldest_first() && (again || on_the_way));
}

void SpecMatrix::expect_holds(const std::string& tokens, const std::string& bits, const std::string& grid) {
  const std::string rest = join(join(tokens, bits), grid);
  const bool prunes = tokens.starts_with("pyramidinfer");
  if (is_refused(tokens, bits, grid)) {
    EXPECT_THROW(parse(join(term_, rest)), Error);
    return;
  }
  const auto spec = parse(join(term_, rest));
  SCOPED_TRACE(spec->text());
  EXPECT_EQ(parse(spec->text())->text(), spec->text());
  const Result a = run(spec, 16, one_);
  for (const auto* logits : {&a.prompt, &a.decode})
    for (const float x : *logits) ASSERT_TRUE(std::isfinite(x));
  // Threads change nothing, and neither do chunks.
  const Result b = run(spec, 16, two_);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.decode, b.decode);
  if (!reads_upward(layers_)) {  // whose chunks are iterated apart, each until its rows have settled or nearly so
    const Result c = run(spec, 5, two_);
    EXPECT_EQ(a.prompt, c.prompt);
    EXPECT_EQ(a.decode, c.decode);
  }
  // A prompt reads its rows as appended: without a grid its logits are those of the dense cache, and where rows are
  // merged those of the cache of layers that keep their own.
  if (grid.empty() && !prunes) {
    const std::string raw = (*spec)[SlotId{0}].k == Format::kF32 ? "f32" : "f16";
    EXPECT_EQ(a.prompt, run(parse(merges(layers_) ? raw : join(term_, raw)), 16, one_).prompt);
  }
  if (merges(layers_)) {  // how many rows are kept apart follows from the text: a plan can but assume it
    EXPECT_LT(a.bytes.rows, run(parse(rest), 16, one_).bytes.rows);
    EXPECT_GT(a.bytes.gains, 0U);
  } else {
    expect_planned(spec, a);
  }
  EXPECT_LE(a.bytes.total(), a.peak);
  const bool fewer = !prunes || layers_ == Layers::kOwn;  // that layer 2 prunes is nothing to layer 3, which reads it
  if (!tokens.empty() && fewer && bits.front() == 'f') {
    EXPECT_LT(a.bytes.rows, run(parse(join(term_, bits)), 16, one_).bytes.rows);
  }
}

// Every byte is planned, and what is held follows from the rows that live. Which rows those are may depend on the text:
// then a head's may lie in a tile more or less, which is listed.
void SpecMatrix::expect_planned(const std::shared_ptr<const KvSpec>& spec, const Result& result) {
  const KvShape shape = model_->shape();
  const KvPlan plan = plan_kv(spec, shape, kPrompt, static_cast<int>(tokens_.size() - kPrompt), 16);
  EXPECT_EQ(result.bytes.rows, plan.steady.rows);
  EXPECT_EQ(result.bytes.mass, plan.steady.mass);
  const TokenPolicy* const policy = (*spec)[SlotId{0}].tokens.get();
  const bool by_text =
      spec->observes() ||
      (policy != nullptr && (policy->reads_keys(Phase::kPromptEnd) || policy->reads_rows(Phase::kPromptEnd)));
  EXPECT_EQ(result.bytes.mass > 0,
            spec->text().find("h2o") != std::string::npos ||
                spec->text().find("every") != std::string::npos);  // others forget after the prompt
  constexpr std::size_t kListed = 16;                              // bytes of a tile's places in lists
  const std::size_t tiles = by_text ? 2 * static_cast<std::size_t>(spec->layers.slots() * shape.kv_heads) : 0;
  const auto slack = static_cast<double>(tiles * (code_tile_bytes(spec->widest(), shape.head_dim) + kListed));
  EXPECT_NEAR(static_cast<double>(result.bytes.total()), static_cast<double>(plan.steady.total()), slack);
  EXPECT_NEAR(static_cast<double>(result.peak), static_cast<double>(plan.peak_bytes), slack);
}

TEST_P(SpecMatrix, EveryCombinationHolds) {
  for (const char* tokens : kTokens)
    for (const char* bits : kBits)
      for (const char* grid : kGrids) expect_holds(tokens, bits, grid);
}

// Two sequences in every step, of two texts, against each by itself.
TEST_P(SpecMatrix, BatchedEqualsAlone) {
  const std::vector<Token> other(tokens_.rbegin(), tokens_.rend());
  for (const auto& [tokens, bits] :
       std::vector<std::pair<std::string, std::string>>{{"", "f16"},
                                                        {"", "f32"},
                                                        {"", "k8v4"},
                                                        {"", "kivi4(residual=32)"},
                                                        {"streaming(sinks=2,window=9)", "k8v8"},
                                                        {"h2o(heavy=5,recent=4)", "k8v4"},
                                                        {"snapkv(keep=12,window=4,kernel=3,every=6)", "k8v8"},
                                                        {"expected(keep=14,future=20)", "k4v4"},
                                                        {"keydiff(keep=14)", "k8v8"},
                                                        {"kvzip(keep=14)", "k8v8"},
                                                        {"keyl2(keep=14,every=5)", "f16"},
                                                        {"fastgen(recovery=0.7)", "k8v8"}}) {
    if (is_refused(tokens, bits, "")) continue;
    const auto spec = parse(join(term_, join(tokens, bits)));
    SCOPED_TRACE(spec->text());
    const auto logits = [&](std::vector<std::span<const Token>> texts, ThreadPool& pool) {
      BlockPool blocks(model_->shape(), std::size_t{1} << 26);
      std::vector<KvSequence> kvs;
      for (std::size_t i = 0; i < texts.size(); ++i) kvs.emplace_back(spec, model_->shape(), blocks);
      Workspace work;
      std::vector<std::vector<float>> all(texts.size());
      for (std::size_t done = 0; done < tokens_.size();) {
        const std::size_t n = done < kPrompt ? std::min<std::size_t>(16, kPrompt - done) : 1;
        std::vector<Chunk> chunks;
        for (std::size_t i = 0; i < texts.size(); ++i)
          chunks.push_back({.kv = &kvs[i],
                            .tokens = texts[i].subspan(done, n),
                            .logits = Chunk::Logits::kAll,
                            .prompt = done < kPrompt});
        const auto rows = model_->forward(chunks, work, pool);
        const std::size_t size = rows.size() / texts.size();
        for (std::size_t i = 0; i < texts.size(); ++i)
          all[i].insert(all[i].end(), &rows[i * size], &rows[i * size] + size);
        const Phase phase = done >= kPrompt ? Phase::kDecode : done + n == kPrompt ? Phase::kPromptEnd : Phase::kPrompt;
        const bool is_probed = phase == Phase::kPromptEnd && spec->probes() > 0;
        for (KvSequence& kv : kvs) kv.commit(is_probed ? Phase::kPrompt : phase, static_cast<int>(n));
        done += n;
        for (std::size_t i = 0; is_probed && i < texts.size(); ++i) {
          ContextProbe(*model_).run(*model_, pool, work, kvs[i], texts[i].first(kPrompt), 16, [] { return true; });
          kvs[i].commit(Phase::kPromptEnd, 0);
        }
      }
      return all;
    };
    const auto both = logits({tokens_, other}, two_);
    EXPECT_EQ(both[0], logits({tokens_}, one_)[0]);
    EXPECT_EQ(both[1], logits({other}, one_)[0]);
    EXPECT_NE(both[0], both[1]);
  }
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) most = std::max<double>(most, std::fabs(a[i] - b[i]));
  return most;
}

class UpwardMatrix : public SpecMatrix {};

// Token by token is what such a map means. The passes over a prompt come near it, and nearer chunk by chunk than at
// once: as many tokens as there are passes are right at the beginning of every chunk, not of the prompt alone. What the
// passes at once are off by, 0.05 to 11 in a logit here, is far above float32's rounding, 1e-5: no tolerance is needed.
TEST_P(UpwardMatrix, PromptsComeNearTokenByToken) {
  const auto spec = parse(join(term_, "f32"));
  const std::size_t n = tokens_.size(), vocab = static_cast<std::size_t>(model_->config().vocab);
  const auto iterations = static_cast<std::size_t>(spec->layers.iterations);
  const std::vector<float> steps = run(spec, 1, one_, 0).decode;
  const double at_once = largest_difference(run(spec, 60, two_, n).prompt, steps);
  EXPECT_GT(at_once, 0);
  for (const int batch : {10, 16, 37}) {
    const double chunked = largest_difference(run(spec, batch, two_, n).prompt, steps);
    EXPECT_LE(chunked, at_once) << batch;
  }
  // Up to as many tokens as there are passes, a prompt is taken token by token: to the bit, rows being float32.
  const Result prompt = run(spec, 60, two_, iterations);
  EXPECT_TRUE(std::ranges::equal(prompt.prompt, std::span(steps).first(iterations * vocab)));
  EXPECT_TRUE(std::ranges::equal(prompt.decode, std::span(steps).subspan(iterations * vocab)));
  EXPECT_EQ(run(spec, static_cast<int>(iterations), two_, n).prompt, steps);
  const auto longer = run(spec, 60, two_, iterations + 1).prompt;
  EXPECT_FALSE(std::ranges::equal(longer, std::span(steps).first(longer.size())));  // there the passes begin
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<const char*, Layers>>& test) {
  std::string name = std::get<0>(test.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_" + kLayersNames[static_cast<int>(std::get<1>(test.param))];
}

INSTANTIATE_TEST_SUITE_P(Models, SpecMatrix,
                         ::testing::Combine(::testing::Values("llama-wide-heads", "gemma3"),
                                            ::testing::Values(Layers::kOwn, Layers::kPairsShare, Layers::kStrategy,
                                                              Layers::kMiniCache, Layers::kMiniCacheValues,
                                                              Layers::kLckv, Layers::kUpward)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Models, UpwardMatrix,
                         ::testing::Combine(::testing::Values("llama-wide-heads", "gemma3"),
                                            ::testing::Values(Layers::kLckv, Layers::kUpward)),
                         name_of);

TEST(Session, ScoresFromTheStepOfTheFirstTokenOn) {
  ThreadPool pool(1);
  Model model = Model::load(kTiny + "llama-gqa.gguf", pool);
  const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", model.shape()));
  const auto vocab = static_cast<std::size_t>(model.config().vocab);
  const std::vector<Token> tokens(40, 9);
  const auto scored = [&](std::size_t first) {
    Session session(model, pool, {.spec = full, .context = 40, .batch = 16});
    std::vector<std::pair<std::size_t, std::vector<float>>> steps;  // first token, logits
    session.score(
        tokens,
        [&](std::size_t begin, std::span<const float> logits) {
          steps.emplace_back(begin, std::vector<float>(logits.begin(), logits.end()));
        },
        {}, first);
    return steps;
  };
  const auto all = scored(0), some = scored(31), last = scored(32);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[1].second.size(), 16 * vocab);
  EXPECT_EQ(some, (std::vector{all[1], all[2]}));
  EXPECT_EQ(last, (std::vector{all[2]}));
}

TEST(Session, RefusesWhatTheContextCannotHold) {
  ThreadPool pool(1);
  Model model = Model::load(kTiny + "llama-gqa.gguf", pool);
  const auto full = std::make_shared<const KvSpec>(KvSpec::parse("full", model.shape()));
  Session session(model, pool, {.spec = full, .context = 8, .batch = 4});
  EXPECT_THROW(session.prompt(std::vector<Token>{}), Error);
  EXPECT_THROW(session.prompt(std::vector<Token>(9, 1)), Error);
  session.prompt(std::vector<Token>(8, 1));
  EXPECT_THROW(session.decode(1), Error);
  session.reset();
  EXPECT_EQ(session.room(), 8);
  EXPECT_THROW(Session(model, pool, {.spec = full, .context = 8, .batch = 0}), Error);
}

}  // namespace
}  // namespace lamina
