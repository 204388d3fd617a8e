// SPDX-License-Identifier: Apache-2.0
// PyramidInfer on whole models, against a transformer in double precision that prunes by the definition (specs, R9):
// full attention matrices, rows chosen from them, and layers above that are run on what is left.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "engine/session.h"
#include "reference.h"

namespace lamina {
namespace {

using Vector = std::vector<double>;
const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

struct Pruning {
  double keep = 1, recent = 0.2, distance = 1.2;
  int sinks = 4, min = 64;
};

class NaiveLlama {
 public:
  NaiveLlama(const Model& model, std::vector<int> target, Pruning pruning)
      : config_(model.config()), tensors_(model.file().tensors()), target_(std::move(target)), pruning_(pruning) {
    rows.resize(target_.size());
    products.resize(target_.size());
  }

  struct Row {
    Pos pos;
    Vector k, v;  // [kv_heads][head_dim]
  };
  std::vector<std::vector<Row>> rows;  // [layer] that it has stored
  std::vector<std::size_t> products;   // [layer] tokens that it has computed K and V of
  double margin = 1;                   // the least by which a row was preferred to one that went

  // The logits of the last token.
  Vector step(std::span<const Token> tokens, bool prompt) {
    std::vector<Pos> pos;
    std::vector<Vector> x;
    for (const Token token : tokens) {
      pos.push_back(length_++);
      x.push_back(row("token_embd.weight", token));
    }
    prompt_ = static_cast<Pos>(pos.size());
    for (std::size_t layer = 0; layer < target_.size(); ++layer) {
      const std::vector<std::vector<Vector>> weights = attention(layer, pos, x);
      feed_forward(layer, x);
      if (!prompt || target_[layer] != static_cast<int>(layer) || layer + 1 == target_.size()) continue;
      std::vector<std::size_t> kept = survivors(layer, pos, weights);
      for (std::size_t i = 0; i < kept.size(); ++i) pos[i] = pos[kept[i]], x[i] = x[kept[i]];
      pos.resize(kept.size());
      x.resize(kept.size());
    }
    return product(tensors_.find("output.weight") ? "output.weight" : "token_embd.weight",
                   normed("output_norm.weight", x.back()));
  }

 private:
  static std::string name(std::size_t layer, const std::string& part) {
    return fmt::format("blk.{}.{}.weight", layer, part);
  }

  Vector row(const std::string& tensor, std::int64_t index) const {
    const auto bytes = tensors_.tensor(tensor).row(index);
    std::vector<float> x(bytes.size() / sizeof(float));
    std::memcpy(x.data(), bytes.data(), bytes.size());
    return {x.begin(), x.end()};
  }

  Vector product(const std::string& tensor, const Vector& x) const {
    Vector y;
    for (std::int64_t i = 0; i < tensors_.tensor(tensor).rows(); ++i) {
      const Vector w = row(tensor, i);
      y.push_back(std::inner_product(w.begin(), w.end(), x.begin(), 0.0));
    }
    return y;
  }

  Vector normed(const std::string& tensor, Vector x) const {
    const Vector w = row(tensor, 0);
    const double mean = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= w[i] / std::sqrt(mean + config_.norm_eps);
    return x;
  }

  Vector head(const Vector& x, int index) const {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(index) * config_.head_dim;
    return {begin, begin + config_.head_dim};
  }

  // Adds to x; returns the weights [token][head][row of the layer that is read].
  std::vector<std::vector<Vector>> attention(std::size_t layer, const std::vector<Pos>& pos, std::vector<Vector>& x) {
    const auto read = static_cast<std::size_t>(target_[layer]);
    std::vector<Vector> queries;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Vector h = normed(name(layer, "attn_norm"), x[t]);
      queries.push_back(product(name(layer, "attn_q"), h));
      if (std::ranges::find(target_, static_cast<int>(layer)) == target_.end()) continue;
      Row row{pos[t], {}, product(name(layer, "attn_v"), h)};
      const Vector k = product(name(layer, "attn_k"), h);
      for (int i = 0; i < config_.kv_heads; ++i) {
        const Vector turned = reference::rotated(config_.rope, head(k, i), pos[t]);
        row.k.insert(row.k.end(), turned.begin(), turned.end());
      }
      rows[layer].push_back(row);
      ++products[layer];
    }
    std::vector<std::vector<Vector>> weights(x.size());
    for (std::size_t t = 0; t < x.size(); ++t) {
      Vector mixed;
      for (int i = 0; i < config_.heads; ++i) {
        weights[t].push_back(softmax(reference::rotated(config_.rope, head(queries[t], i), pos[t]), pos[t], rows[read],
                                     i / (config_.heads / config_.kv_heads)));
        Vector out(static_cast<std::size_t>(config_.head_dim));
        for (std::size_t r = 0; r < rows[read].size(); ++r) {
          const Vector v = head(rows[read][r].v, i / (config_.heads / config_.kv_heads));
          for (std::size_t c = 0; c < out.size(); ++c) out[c] += weights[t][static_cast<std::size_t>(i)][r] * v[c];
        }
        mixed.insert(mixed.end(), out.begin(), out.end());
      }
      add(x[t], product(name(layer, "attn_output"), mixed));
    }
    return weights;
  }

  Vector softmax(const Vector& q, Pos pos, const std::vector<Row>& stored, int kv_head) const {
    Vector weights;
    for (const Row& row : stored) {
      const Vector k = head(row.k, kv_head);
      const double score = std::inner_product(q.begin(), q.end(), k.begin(), 0.0) * config_.attention_scale;
      weights.push_back(row.pos <= pos ? std::exp(score) : 0);
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& w : weights) w /= sum;
    return weights;
  }

  void feed_forward(std::size_t layer, std::vector<Vector>& x) const {
    for (Vector& row : x) {
      const Vector h = normed(name(layer, "ffn_norm"), row);
      Vector gate = product(name(layer, "ffn_gate"), h);
      const Vector up = product(name(layer, "ffn_up"), h);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      add(row, product(name(layer, "ffn_down"), gate));
    }
  }

  static void add(Vector& x, const Vector& y) { std::ranges::transform(x, y, x.begin(), std::plus()); }

  // weights: of the rows that the layer has stored, of which the last pos.size() are those at hand.
  std::vector<std::size_t> survivors(std::size_t layer, const std::vector<Pos>& pos,
                                     const std::vector<std::vector<Vector>>& weights) {
    const int n = prompt_, recent = static_cast<int>(pruning_.recent * n), count = 1 + recent;
    std::vector<std::size_t> all(pos.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    const int context = static_cast<int>(pos.size()) - count;
    const double angle = std::acos(-1.0) * static_cast<double>(layer) / static_cast<double>(target_.size());
    const double ratio = (1 - pruning_.keep) * (std::cos(angle) + 1) / 2 + pruning_.keep;
    const int kept = static_cast<int>(context * ratio);
    if (context <= 0 || kept == context || kept <= std::min(pruning_.min, n - 1 - recent)) return all;
    const std::size_t old = rows[layer].size() - pos.size();
    std::vector<std::pair<double, std::size_t>> scored;  // negative, to sort
    for (std::size_t row = 0; row < static_cast<std::size_t>(context); ++row) {
      double score = pos[row] < pruning_.sinks ? 1e9 : 0;
      for (int q = 0; q < count; ++q)
        for (const Vector& head : weights[all.size() - static_cast<std::size_t>(count - q)])
          score += (recent > 0 ? 1 + (pruning_.distance - 1) * q / recent : 1) * head[old + row] / count /
                   static_cast<double>(config_.heads);
      scored.emplace_back(-score, row);
    }
    std::ranges::sort(scored);
    margin = std::min(margin,
                      scored[static_cast<std::size_t>(kept)].first - scored[static_cast<std::size_t>(kept) - 1].first);
    std::set<std::size_t> chosen;
    for (int i = 0; i < kept; ++i) chosen.insert(scored[static_cast<std::size_t>(i)].second);
    std::vector<std::size_t> result(chosen.begin(), chosen.end());
    result.insert(result.end(), all.begin() + context, all.end());
    return result;
  }

  const ModelConfig& config_;
  const TensorTable& tensors_;
  std::vector<int> target_;
  Pruning pruning_;
  Pos length_ = 0, prompt_ = 0;  // tokens of the text, of the prompt at hand
};

class PyramidInferModel : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    model_ = std::make_unique<Model>(Model::load(kTiny + name + ".gguf", pool_));
    tokens_ = nlohmann::json::parse(std::ifstream(kTiny + name + ".json")).at("tokens").get<std::vector<Token>>();
    while (tokens_.size() < 90) tokens_.push_back(tokens_[tokens_.size() - 37]);
  }

  std::shared_ptr<const KvSpec> spec(const std::string& text) const {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, model_->shape()));
  }
  Session session(const std::string& text, int batch = 512) {
    return {*model_, pool_, {.spec = spec(text), .context = 100, .batch = batch}};
  }
  std::span<const Token> tokens(std::size_t first, std::size_t n) const { return std::span(tokens_).subspan(first, n); }

  static std::vector<Pos> positions(KvSequence& kv, int layer) {
    std::vector<Pos> pos;
    for (const Segment& s : kv.segments(LayerId{layer})[0]) pos.insert(pos.end(), s.pos, s.pos + s.rows());
    return pos;
  }

  // What float32 gets wrong of logits up to 10 on 90 tokens.
  static void expect_same(std::span<const float> logits, const Vector& want) {
    ASSERT_EQ(logits.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(logits[i], want[i], 3e-4) << i;
  }

  void expect_naive(const std::string& text, const std::vector<int>& target, Pruning pruning);

  ThreadPool pool_{2};
  std::unique_ptr<Model> model_;
  std::vector<Token> tokens_;
};

// Rows stored by each layer, logits after the prompt, of decoded tokens and of a second prompt. Rows are chosen by
// margins (of mean weights) well above what float32 gets wrong.
void PyramidInferModel::expect_naive(const std::string& text, const std::vector<int>& target, Pruning pruning) {
  SCOPED_TRACE(text);
  Session session = this->session(text);
  NaiveLlama naive(*model_, target, pruning);
  const std::uint64_t products = model_->kv_products();
  std::size_t stored = 0;
  const auto expect_rows = [&] {
    stored = 0;
    for (std::size_t layer = 0; layer < target.size(); ++layer) {
      stored += naive.products[layer];
      if (naive.rows[layer].empty()) continue;
      std::vector<Pos> want;
      for (const auto& row : naive.rows[layer]) want.push_back(row.pos);
      EXPECT_EQ(positions(session.kv(), static_cast<int>(layer)), want) << "layer " << layer;
    }
    EXPECT_EQ(model_->kv_products() - products, stored);  // nothing is computed that is not stored
  };
  expect_same(session.prompt(tokens(0, 60)), naive.step(tokens(0, 60), true));
  expect_rows();
  EXPECT_LT(session.kv().kept_fraction(), 0.98);
  for (std::size_t t = 60; t < 64; ++t) expect_same(session.decode(tokens_[t]), naive.step(tokens(t, 1), false));
  expect_same(session.prompt(tokens(64, 26)), naive.step(tokens(64, 26), true));
  expect_rows();
  EXPECT_GT(naive.margin, 1e-6);
}

TEST_P(PyramidInferModel, EqualsTheDefinition) {
  expect_naive("pyramidinfer(keep=0.6,min=8) + f32", {0, 1, 2, 3}, {.keep = 0.6, .min = 8});
  expect_naive("pyramidinfer(keep=0.3,recent=0.1,distance=3,sinks=0,min=2) + f32", {0, 1, 2, 3},
               {.keep = 0.3, .recent = 0.1, .distance = 3, .sinks = 0, .min = 2});
  expect_naive("pyramidinfer(keep=0.4,recent=0,min=12) + f32 + rotate", {0, 1, 2, 3},
               {.keep = 0.4, .recent = 0, .min = 12});
}

// Readers of a lower layer see what it has stored, more than they have themselves, and drop nothing.
TEST_P(PyramidInferModel, GoesWithLayersThatShareRows) {
  expect_naive("map(0_1_1_3) + pyramidinfer(keep=0.3,min=8) + f32", {0, 1, 1, 3}, {.keep = 0.3, .min = 8});
  expect_naive("map(0_1_2_1) + pyramidinfer(keep=0.3,min=8) + f32", {0, 1, 2, 1}, {.keep = 0.3, .min = 8});
}

std::vector<float> copy(std::span<const float> x) { return {x.begin(), x.end()}; }

TEST_P(PyramidInferModel, DropsNothingWhereAllIsKept) {
  for (const char* text : {"pyramidinfer(keep=1)", "pyramidinfer(min=48)", "pyramidinfer(recent=60,keep=0.1)"}) {
    Session full = session("full"), pruned = session(text);
    EXPECT_EQ(copy(pruned.prompt(tokens(0, 60))), copy(full.prompt(tokens(0, 60)))) << text;
    EXPECT_EQ(copy(pruned.decode(7)), copy(full.decode(7))) << text;
    EXPECT_EQ(pruned.kv().bytes().total(), full.kv().bytes().total()) << text;
  }
}

// The prompt is one step whatever the batch, and prompts of one step do not see each other.
TEST_P(PyramidInferModel, NeitherBatchNorNeighboursChangeABit) {
  const std::string text = "pyramidinfer(keep=0.5,min=8) + k8v4";
  Session one = session(text, 7);
  const std::vector<float> alone = copy(one.prompt(tokens(0, 60)));
  EXPECT_EQ(copy(session(text).prompt(tokens(0, 60))), alone);
  BlockPool blocks(model_->shape(), std::size_t{1} << 26, Format::kF16);
  Workspace work;
  std::vector<KvSequence> kvs;
  for (const char* other : {"full", text.c_str(), text.c_str()}) kvs.emplace_back(spec(other), model_->shape(), blocks);
  std::vector<Chunk> chunks = {{.kv = &kvs[0], .tokens = tokens(3, 20), .prompt = true},
                               {.kv = &kvs[1], .tokens = tokens(10, 80), .prompt = true},
                               {.kv = &kvs[2], .tokens = tokens(0, 60), .prompt = true}};
  const auto logits = model_->forward(chunks, work, pool_);
  EXPECT_TRUE(std::ranges::equal(logits.last(alone.size()), alone));
  EXPECT_EQ(copy(logits.first(alone.size())), copy(session("full").prompt(tokens(3, 20))));
  for (std::size_t i = 0; i < kvs.size(); ++i)
    kvs[i].commit(Phase::kPromptEnd, static_cast<int>(chunks[i].tokens.size()));
  EXPECT_EQ(kvs[2].bytes().total(), one.kv().bytes().total());
}

// What a long step worked in goes, its logits stay, and the next step finds all that it needs.
TEST_P(PyramidInferModel, WorkingMemoryCanBeGivenBack) {
  BlockPool blocks(model_->shape(), std::size_t{1} << 26, Format::kF16);
  Workspace work;
  KvSequence kv(spec("pyramidinfer(keep=0.5,min=8)"), model_->shape(), blocks);
  const Chunk prompt{.kv = &kv, .tokens = tokens(0, 60), .prompt = true};
  const auto logits = model_->forward({&prompt, 1}, work, pool_);
  const std::vector<float> before = copy(logits);
  work.give_back();
  EXPECT_EQ(work.x.capacity() + work.q.capacity() + work.gate.capacity() + work.up.capacity(), 0U);
  EXPECT_EQ(copy(logits), before);
  kv.commit(Phase::kPromptEnd, 60);
  Session session = this->session("pyramidinfer(keep=0.5,min=8)");
  EXPECT_EQ(copy(session.prompt(tokens(0, 60))), before);
  const Token next = 7;
  const Chunk one{.kv = &kv, .tokens = {&next, 1}, .prompt = false};
  EXPECT_EQ(copy(model_->forward({&one, 1}, work, pool_)), copy(session.decode(next)));
}

TEST_P(PyramidInferModel, PlanFollowsTheSchedule) {
  const std::string text = "pyramidinfer(keep=0.5,min=8)";
  Session session = this->session(text);
  session.prompt(tokens(0, 60));
  const KvPlan plan = plan_kv(spec(text), model_->shape(), 60, 0, 16);
  EXPECT_EQ(session.kv().bytes().total(), plan.steady.total());
  EXPECT_EQ(session.kv().bytes().rows, plan.steady.rows);
  EXPECT_EQ(session.peak_bytes(), plan.peak_bytes);
  // 47 rows before the recent 13, then times .926…, .75 and .573…, rounded down
  std::vector<std::size_t> rows(4);
  for (int layer = 0; layer < 4; ++layer) rows[layer] = session.kv().live_rows(SlotId{layer}).front();
  EXPECT_EQ(rows, (std::vector<std::size_t>{60, 60, 43 + 13, 32 + 13}));
}

TEST_P(PyramidInferModel, RefusesWhatItCannotDo) {
  Session session = this->session("pyramidinfer");
  const auto ignore = [](std::size_t, std::span<const float>) {};
  EXPECT_THROW(session.score(tokens(0, 60), ignore), Error);
  session.prompt(tokens(0, 60));  // nothing is left of the refused one
  EXPECT_EQ(session.kv().length(), 60);
  EXPECT_THROW(session.kv().truncate(30), Error);
  for (const char* text : {"pyramidinfer + grid(16)", "minicache + pyramidinfer", "tokens(0-2=pyramidinfer)",
                           "tokens(0=full,1-3=pyramidinfer)", "tokens(0=pyramidinfer,1-3=pyramidinfer(keep=0.8))"})
    EXPECT_THROW(spec(text), Error) << text;
  EXPECT_THROW(KvSpec::parse("map(0_2_2_3) + pyramidinfer", model_->shape(), UpwardMaps::kAny), Error);
  EXPECT_EQ(spec("tokens(0-3=pyramidinfer)")->text(), "pyramidinfer");
  EXPECT_NE(spec("pyramidinfer")->why_no_prefix_reuse(), "");
}

INSTANTIATE_TEST_SUITE_P(Models, PyramidInferModel, ::testing::Values("llama-gqa", "llama-wide-heads"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace lamina
