// SPDX-License-Identifier: Apache-2.0
// H2O, and SnapKV in decode, on whole models, against Hugging Face's eager attention in float64
// (tools/golden_logits.py): what each row is given, which rows are kept, and that neither depends on how a prompt is
// cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "engine/session.h"

namespace lamina {
namespace {

const std::string kTiny = std::string(LAMINA_TESTS) + "/golden/tiny/";

// What a test knows of one slot and head: the sum of each row, and the positions kept.
struct Head {
  std::vector<double> mass;
  std::vector<Pos> kept;
  bool operator==(const Head&) const = default;
};

class H2oModel : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    model_ = std::make_unique<Model>(Model::load(kTiny + name + ".gguf", pool_));
    tokens_ = nlohmann::json::parse(std::ifstream(kTiny + name + ".json")).at("tokens").get<std::vector<Token>>();
    shape_ = model_->shape();
    heads_ = shape_.kv_heads * shape_.query_group;
    attention_.resize(static_cast<std::size_t>(shape_.layers * heads_) * tokens_.size() * tokens_.size());
    std::ifstream in(kTiny + name + ".attention.f32", std::ios::binary);
    in.read(reinterpret_cast<char*>(attention_.data()),
            static_cast<std::streamsize>(attention_.size() * sizeof(float)));
    ASSERT_TRUE(in.good());
  }

  double attention(int layer, int query_head, Pos query, Pos row) const {
    const auto n = static_cast<Pos>(tokens_.size());
    return attention_[static_cast<std::size_t>(((layer * heads_ + query_head) * n + query) * n + row)];
  }

  // [layer][kv_head] what the first `prompt` queries give the rows, and the rows that H2O keeps of it by definition.
  std::vector<std::vector<Head>> eager(Pos prompt, std::size_t heavy, Pos recent) const {
    std::vector<std::vector<Head>> all(static_cast<std::size_t>(shape_.layers));
    for (int layer = 0; layer < shape_.layers; ++layer)
      for (int h = 0; h < shape_.kv_heads; ++h) {
        Head& head = all[static_cast<std::size_t>(layer)].emplace_back();
        head.mass.resize(static_cast<std::size_t>(prompt));
        for (Pos query = 0; query < prompt; ++query)
          for (Pos row = 0; row <= query; ++row)
            for (int j = 0; j < shape_.query_group; ++j)
              head.mass[static_cast<std::size_t>(row)] += attention(layer, h * shape_.query_group + j, query, row);
        const Pos window = shape_.window(LayerId{layer});
        const Pos first = window > 0 ? std::max(0, prompt - window + 1) : 0;  // what later queries can see
        std::vector<Pos> order;
        for (Pos pos = first; pos < prompt - recent; ++pos) order.push_back(pos);
        std::stable_sort(order.begin(), order.end(), [&](Pos a, Pos b) { return head.mass[a] > head.mass[b]; });
        order.resize(std::min(order.size(), heavy));
        for (Pos pos = std::max(first, prompt - recent); pos < prompt; ++pos) order.push_back(pos);
        std::sort(order.begin(), order.end());
        std::fill_n(head.mass.begin(), first, 0.0);  // their rows have gone
        head.kept = order;
      }
    return all;
  }

  // [layer][kv_head] what SnapKV keeps of the whole text by its last `window` queries: largest of 3 neighbours for each
  // query head, then the mean.
  std::vector<std::vector<Head>> eager_snapkv(std::size_t budget, Pos window) const {
    const auto n = static_cast<Pos>(tokens_.size());
    std::vector<std::vector<Head>> all(static_cast<std::size_t>(shape_.layers));
    for (int layer = 0; layer < shape_.layers; ++layer)
      for (int h = 0; h < shape_.kv_heads; ++h) {
        const Pos sliding = shape_.window(LayerId{layer}), first = sliding > 0 ? std::max(0, n - sliding + 1) : 0;
        std::vector<double> score(static_cast<std::size_t>(n));
        for (int j = 0; j < shape_.query_group; ++j) {
          std::vector<double> sums(static_cast<std::size_t>(n));
          for (Pos query = n - window; query < n; ++query)
            for (Pos row = first; row < n - window; ++row)
              sums[row] += attention(layer, h * shape_.query_group + j, query, row);
          for (Pos row = first; row < n - window; ++row)
            score[row] +=
                std::max({sums[std::max(row - 1, first)], sums[row], sums[std::min(row + 1, n - window - 1)]});
        }
        std::vector<Pos>& kept = all[static_cast<std::size_t>(layer)].emplace_back().kept;
        for (Pos row = first; row < n - window; ++row) kept.push_back(row);
        std::ranges::stable_sort(kept, [&](Pos a, Pos b) { return score[a] > score[b]; });
        kept.resize(std::min(kept.size(), budget));
        for (Pos row = std::max(first, n - window); row < n; ++row) kept.push_back(row);
        std::ranges::sort(kept);
      }
    return all;
  }

  struct Run {
    std::vector<std::vector<Head>> layers;  // [layer][kv_head] at the end of the prompt
    std::vector<float> decoded;             // logits of the tokens after it
    std::vector<std::vector<Head>> end;     // after those, the positions kept
  };

  // A prompt in chunks, then the rest token by token.
  Run run(const std::string& text, Pos prompt, int batch, ThreadPool& pool) {
    const auto spec = std::make_shared<const KvSpec>(KvSpec::parse(text, shape_));
    BlockPool blocks(shape_, std::size_t{1} << 26);
    KvSequence kv(spec, shape_, blocks);
    Workspace work;
    Run result;
    kv.expect_prompt(prompt);
    const auto step = [&](Phase phase, int tokens) {
      const auto chunk_tokens = std::span(tokens_).subspan(static_cast<std::size_t>(kv.length()), tokens);
      const Chunk chunk{.kv = &kv, .tokens = chunk_tokens, .prompt = phase != Phase::kDecode};
      const auto logits = model_->forward({&chunk, 1}, work, pool);
      if (phase == Phase::kDecode) result.decoded.insert(result.decoded.end(), logits.begin(), logits.end());
      if (phase == Phase::kPromptEnd) result.layers = measured(kv, tokens);
      kv.commit(phase, tokens);
      if (phase == Phase::kPromptEnd) add_kept(kv, result.layers);
    };
    while (kv.length() < prompt) {
      const int tokens = kv.prompt_step(prompt - kv.length(), batch);
      step(kv.length() + tokens == prompt ? Phase::kPromptEnd : Phase::kPrompt, tokens);
    }
    while (kv.length() < static_cast<Pos>(tokens_.size())) step(Phase::kDecode, 1);
    result.end.assign(static_cast<std::size_t>(shape_.layers), std::vector<Head>(shape_.kv_heads));
    add_kept(kv, result.end);
    return result;
  }

  // The sums that the step has added up: asked for again before the commit, they are still there. Of rows that no
  // window has left: others are gone already where a prompt came in several steps.
  std::vector<std::vector<Head>> measured(KvSequence& kv, int tokens) const {
    std::vector<std::vector<Head>> all(static_cast<std::size_t>(shape_.layers));
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const auto segments = kv.segments(LayerId{layer});
      const Observation to = kv.observe(LayerId{layer}, tokens, true);
      for (std::size_t h = 0; h < to.mass.size(); ++h) {
        Head& head = all[static_cast<std::size_t>(layer)].emplace_back();
        const Pos window = shape_.window(LayerId{layer}), length = kv.length() + tokens;
        head.mass.resize(static_cast<std::size_t>(length));
        const float* sums = to.mass[h];
        for (const Segment& s : segments[h]) {
          for (std::uint32_t i = 0; i < s.rows(); ++i)
            if (window == 0 || s.pos[i] > length - window) head.mass[s.pos[i]] = sums[s.first % kTileRows + i];
          sums += s.range().padded();
        }
      }
    }
    return all;
  }

  void add_kept(KvSequence& kv, std::vector<std::vector<Head>>& layers) const {
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const auto segments = kv.segments(LayerId{layer});
      for (std::size_t h = 0; h < layers[static_cast<std::size_t>(layer)].size(); ++h)
        for (const Segment& s : segments[h])
          for (std::uint32_t i = 0; i < s.rows(); ++i) {
            const std::uint32_t row = s.first + i;
            if (s.dead != nullptr && (s.dead[row / kTileRows - s.first_tile()] >> row % kTileRows & 1) != 0) continue;
            layers[static_cast<std::size_t>(layer)][h].kept.push_back(s.pos[i]);
          }
    }
  }

  ThreadPool pool_{2};
  std::unique_ptr<Model> model_;
  std::vector<Token> tokens_;
  KvShape shape_;
  int heads_ = 0;
  std::vector<float> attention_;  // [layer][query head][query][row]
};

// The margin between the last row kept and the first one that goes is at least 1e-5 in these prompts: no tie is left to
// rounding. Sums of up to 40 float32 weights of both implementations agree to 2e-5.
TEST_P(H2oModel, KeepsWhatEagerAttentionSays) {
  std::size_t dropped = 0, differing = 0;
  for (const auto& [prompt, heavy, recent] : {std::tuple{24, 5, 4}, {23, 1, 2}, {17, 9, 1}, {24, 0, 3}, {20, 12, 0}}) {
    const auto want = eager(prompt, static_cast<std::size_t>(heavy), std::max(1, recent));
    for (const int batch : {1, 7, 16, prompt}) {
      const std::string text = fmt::format("h2o(heavy={},recent={}) + f32", heavy, recent);
      const Run got = run(text, prompt, batch, pool_);
      for (std::size_t layer = 0; layer < want.size(); ++layer)
        for (std::size_t h = 0; h < want[layer].size(); ++h) {
          const Head &a = got.layers[layer][h], &b = want[layer][h];
          ASSERT_EQ(a.mass.size(), b.mass.size());
          for (std::size_t row = 0; row < b.mass.size(); ++row) ASSERT_NEAR(a.mass[row], b.mass[row], 2e-5);
          ASSERT_EQ(a.kept, b.kept) << text << " layer " << layer << " head " << h << " batch " << batch;
          dropped += b.mass.size() - b.kept.size();
          differing += h > 0 && b.kept != want[layer][0].kept ? 1 : 0;
        }
    }
  }
  EXPECT_GT(dropped, 1000U);
  EXPECT_TRUE(shape_.kv_heads == 1 || differing > 10);  // heads have rows of their own
}

// To the bit: the sums, the rows kept and what is decoded from them, for any cut of the prompt and any threads.
TEST_P(H2oModel, NeitherChunksNorThreadsChangeABit) {
  ThreadPool one(1), three(3);
  const auto shared = [&](const std::string& readers) {
    std::string map;
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const int below = layer > 0 && shape_.window(LayerId{layer}) == shape_.window(LayerId{layer - 1}) ? 1 : 0;
      map += fmt::format("{}{}", layer > 0 ? "_" : "", layer - below * (layer % 2));
    }
    return fmt::format("map({}) + h2o(heavy=5,recent=4,readers={})", map, readers);
  };
  for (const std::string& text :
       {std::string("h2o(heavy=5,recent=4)"), std::string("h2o(heavy=5,recent=4,average) + k8v4"),
        std::string("h2o(heavy=5,recent=4,oneshot) + f32"), shared("owner"), shared("sum"), shared("max"),
        std::string("minicache(start=0.0) + h2o(heavy=5,recent=4)")}) {
    const Pos prompt = static_cast<Pos>(tokens_.size()) - 4;
    const Run whole = run(text, prompt, prompt, one);
    for (const int batch : {1, 3, 7, 16, prompt})
      for (ThreadPool* pool : {&one, &three}) {
        const Run cut = run(text, prompt, batch, *pool);
        EXPECT_TRUE(cut.layers == whole.layers) << text << " batch " << batch;
        EXPECT_TRUE(cut.decoded == whole.decoded) << text << " batch " << batch;
      }
  }
}

// The prompt is kept whole, then decode chooses once, by the text's last queries.
TEST_P(H2oModel, SnapKvInDecodeKeepsWhatEagerAttentionSays) {
  const auto n = static_cast<Pos>(tokens_.size());
  const auto want = eager_snapkv(8, 4);
  const Run got = run(fmt::format("snapkv(keep=12,window=4,kernel=3,every={}) + f32", n - 12), 12, 5, pool_);
  for (std::size_t layer = 0; layer < want.size(); ++layer)
    for (std::size_t h = 0; h < want[layer].size(); ++h) {
      EXPECT_EQ(got.end[layer][h].kept, want[layer][h].kept) << "layer " << layer << " head " << h;
      EXPECT_LE(want[layer][h].kept.size(), 12U);
    }
}

// A text that goes on after decoding: what was counted is counted on, and the store holds the budget of the new prompt.
TEST_P(H2oModel, PromptsMayFollowPrompts) {
  for (const char* text : {"h2o(heavy=4,recent=3) + f32", "h2o(heavy=4,recent=3,oneshot) + k8v8"}) {
    const auto spec = std::make_shared<const KvSpec>(KvSpec::parse(text, shape_));
    const auto logits = [&](int batch) {
      Session session(*model_, pool_, {.spec = spec, .context = 64, .batch = batch});
      std::vector<float> all;
      const auto add = [&](std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
      const std::span<const Token> tokens(tokens_);
      add(session.prompt(tokens.first(12)));
      for (const Token token : tokens.subspan(12, 4)) add(session.decode(token));
      add(session.prompt(tokens.subspan(16, 6)));
      for (const Token token : tokens.subspan(22)) add(session.decode(token));
      return all;
    };
    const std::vector<float> whole = logits(64);
    for (const float x : whole) ASSERT_TRUE(std::isfinite(x));
    EXPECT_EQ(logits(1), whole) << text;
    EXPECT_EQ(logits(5), whole) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, H2oModel, ::testing::Values("llama-gqa", "gemma3-array"), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace lamina
