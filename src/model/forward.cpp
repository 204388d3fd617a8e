// SPDX-License-Identifier: Apache-2.0
// The transformer, top to bottom. The only file that sees both the model and attention.
#include "model/forward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/dequant.h"

namespace lamina {
namespace {

bool all_finite(const float* x, std::size_t n) {
  std::uint32_t bad = 0;  // in integers, which the compiler vectorises
  for (std::size_t i = 0; i < n; ++i)
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(x[i]) & 0x7f800000U) == 0x7f800000U);
  return bad == 0;
}

}  // namespace

struct Model::Step {
  std::span<const Chunk> chunks;
  std::size_t tokens;  // of all chunks
  Workspace& work;
  ThreadPool& pool;
  const Kernels& ops;

  // Calls fn(row) for every token of the step.
  template <class Fn>
  void each_row(Fn&& fn) {
    pool.parallel_for(static_cast<int>(tokens), [&](int row, int) { fn(static_cast<std::size_t>(row)); });
  }
};

std::span<const float> Model::forward(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool) {
  Step step{chunks, 0, work, pool, kernels(chosen_isa())};
  begin(step);
  embed(step);
  for (int layer = 0; layer < config_.layers; ++layer) {
    attention(step, layer);
    feed_forward(step, layer);
  }
  return head(step);
}

void Model::attention(Step& step, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace& work = step.work;
  norm(step, work.x, w.attention_norm, work.h);
  project(step, layer);
  append(step, layer);
  attend_rows(step, layer);
  work.input.set(work.attended.data(), static_cast<int>(step.tokens), config_.heads * config_.head_dim, step.pool);
  multiply(step, {{.w = &w.o, .y = work.h.data(), .stride = config_.hidden}});
  if (!w.attention_post_norm.empty()) norm(step, work.h, w.attention_post_norm, work.h);
  add(step, work.x, work.h);
}

void Model::feed_forward(Step& step, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace& work = step.work;
  const auto ffn = static_cast<std::size_t>(config_.ffn);
  norm(step, work.x, w.ffn_norm, work.h);
  work.input.set(work.h.data(), static_cast<int>(step.tokens), config_.hidden, step.pool);
  multiply(step, {{.w = &w.gate, .y = work.gate.data(), .stride = config_.ffn},
                  {.w = &w.up, .y = work.up.data(), .stride = config_.ffn}});
  const auto gated = config_.architecture == Architecture::kGemma3 ? step.ops.gelu_tanh_mul : step.ops.silu_mul;
  step.each_row(
      [&](std::size_t row) { gated(&work.gate[row * ffn], &work.up[row * ffn], ffn, &work.gate[row * ffn]); });
  work.input.set(work.gate.data(), static_cast<int>(step.tokens), config_.ffn, step.pool);
  multiply(step, {{.w = &w.down, .y = work.h.data(), .stride = config_.hidden}});
  if (!w.ffn_post_norm.empty()) norm(step, work.h, w.ffn_post_norm, work.h);
  add(step, work.x, work.h);
}

// Layers that do not write compute no K and no V. Sequences of one step may have different maps.
void Model::project(Step& step, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace& work = step.work;
  const int q_width = config_.heads * config_.head_dim, kv_width = config_.kv_heads * config_.head_dim;
  const auto keys_values = [&](std::size_t row) -> std::array<Product, 2> {
    const std::size_t offset = row * static_cast<std::size_t>(kv_width);
    return {
        {{.w = &w.k, .y = &work.k[offset], .stride = kv_width}, {.w = &w.v, .y = &work.v[offset], .stride = kv_width}}};
  };
  const Product queries{.w = &w.q, .y = work.q.data(), .stride = q_width};
  work.input.set(work.h.data(), static_cast<int>(step.tokens), config_.hidden, step.pool);
  if (std::all_of(step.chunks.begin(), step.chunks.end(), [&](const Chunk& c) { return writes(c, layer); })) {
    const auto [keys, values] = keys_values(0);
    multiply(step, {queries, keys, values});
    kv_products_ += step.tokens;
  } else {
    multiply(step, {queries});
    std::size_t row = 0;
    for (const Chunk& chunk : step.chunks) {
      if (writes(chunk, layer)) {
        work.input.set(&work.h[row * static_cast<std::size_t>(config_.hidden)], static_cast<int>(chunk.tokens.size()),
                       config_.hidden, step.pool);
        const auto [keys, values] = keys_values(row);
        multiply(step, {keys, values});
        kv_products_ += chunk.tokens.size();
      }
      row += chunk.tokens.size();
    }
  }
  if (!w.q_norm.empty()) norm_heads(step, work.q, config_.heads, w.q_norm);
  if (!w.k_norm.empty()) norm_heads(step, work.k, config_.kv_heads, w.k_norm);
}

void Model::append(Step& step, int layer) {
  Workspace& work = step.work;
  const Rope& rope = rope_of(work, layer);
  const auto dim = static_cast<std::size_t>(config_.head_dim), width = dim * static_cast<std::size_t>(config_.kv_heads);
  if (std::any_of(step.chunks.begin(), step.chunks.end(), [&](const Chunk& c) { return writes(c, layer); }))
    step.each_row([&](std::size_t row) {
      for (std::size_t c = 0; c < width; c += dim) rope.rotate(&work.k[row * width + c], work.positions[row]);
    });
  std::size_t row = 0;
  for (const Chunk& chunk : step.chunks) {
    if (writes(chunk, layer)) {
      const std::size_t size = chunk.tokens.size() * width;
      require(all_finite(&work.k[row * width], size) && all_finite(&work.v[row * width], size),
              "{}: layer {} computed keys or values that are not finite numbers", file_.path(), layer);
      chunk.kv->append(LayerId{layer}, static_cast<int>(chunk.tokens.size()), &work.k[row * width],
                       &work.v[row * width]);
    }
    row += chunk.tokens.size();
  }
}

// Queries are handed over unrotated: attention rotates them once for each position shift among the segments.
void Model::attend_rows(Step& step, int layer) {
  Workspace& work = step.work;
  const std::size_t width = static_cast<std::size_t>(config_.heads) * static_cast<std::size_t>(config_.head_dim);
  const AttentionShape shape{.heads = config_.heads,
                             .kv_heads = config_.kv_heads,
                             .head_dim = config_.head_dim,
                             .scale = config_.attention_scale,
                             .window = config_.windows[static_cast<std::size_t>(layer)],
                             .lagged = false};
  work.queries.clear();
  std::size_t row = 0;
  for (const Chunk& chunk : step.chunks) {
    work.queries.push_back({.q = &work.q[row * width],
                            .pos = std::span(work.positions).subspan(row, chunk.tokens.size()),
                            .segments = chunk.kv->segments(LayerId{layer}),
                            .out = &work.attended[row * width],
                            .lse = nullptr,
                            .prompt = chunk.prompt});
    row += chunk.tokens.size();
  }
  attend(step.pool, step.chunks.front().kv->memory(), shape, rope_of(work, layer), work.queries, work.attention);
}

void Model::begin(Step& step) {
  Workspace& work = step.work;
  work.positions.clear();
  for (const Chunk& chunk : step.chunks) {
    assert(chunk.kv != nullptr && !chunk.tokens.empty());
    Pos pos = chunk.kv->length();
    for (const Token token : chunk.tokens) {
      require(token >= 0 && token < config_.vocab, "token {} is not in the vocabulary of {}", token, config_.vocab);
      work.positions.push_back(pos++);
    }
  }
  step.tokens = work.positions.size();
  const Pos end = *std::max_element(work.positions.begin(), work.positions.end()) + 1;
  if (work.ropes.empty()) work.ropes = {Rope(config_.rope), Rope(config_.window_rope)};
  for (Rope& rope : work.ropes) rope.reserve(end);
  const auto grow = [&](std::vector<float>& buffer, int width) {
    const std::size_t size = step.tokens * static_cast<std::size_t>(width);
    if (buffer.size() < size) buffer.resize(size);
  };
  for (auto* buffer : {&work.x, &work.h}) grow(*buffer, config_.hidden);
  for (auto* buffer : {&work.q, &work.attended}) grow(*buffer, config_.heads * config_.head_dim);
  for (auto* buffer : {&work.k, &work.v}) grow(*buffer, config_.kv_heads * config_.head_dim);
  for (auto* buffer : {&work.gate, &work.up}) grow(*buffer, config_.ffn);
}

void Model::embed(Step& step) {
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const TensorView& table = weights_.embedding;
  const std::size_t row_bytes = table.data.size() / static_cast<std::size_t>(table.rows());
  std::vector<Token> tokens;
  for (const Chunk& chunk : step.chunks) tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
  step.each_row([&](std::size_t row) {
    const std::span<float> x(&step.work.x[row * hidden], hidden);
    dequantize(table.type, table.data.subspan(static_cast<std::size_t>(tokens[row]) * row_bytes, row_bytes), x);
    if (config_.embedding_scale != 1) step.ops.scale(x.data(), config_.embedding_scale, hidden);
  });
  // The other weights are checked when they are packed; these stay in the file.
  for (std::size_t i = 0; i < step.tokens * hidden; ++i)
    require(std::isfinite(step.work.x[i]), "{}: tensor \"{}\", row {} is not of finite numbers", file_.path(),
            table.name, tokens[i / hidden]);
}

std::span<const float> Model::head(Step& step) {
  Workspace& work = step.work;
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  std::vector<std::size_t> wanted;
  std::size_t row = 0;
  for (const Chunk& chunk : step.chunks) {
    const std::size_t end = row + chunk.tokens.size();
    if (chunk.logits == Chunk::Logits::kLast) row = end - 1;
    if (chunk.logits == Chunk::Logits::kNone) row = end;
    for (; row < end; ++row) wanted.push_back(row);
  }
  if (wanted.empty()) return {};
  for (std::size_t i = 0; i < wanted.size(); ++i)
    step.ops.rmsnorm(&work.x[wanted[i] * hidden], weights_.norm.data(), hidden, config_.norm_eps, &work.h[i * hidden]);
  const std::size_t size = wanted.size() * static_cast<std::size_t>(config_.vocab);
  if (work.logits.size() < size) work.logits.resize(size);
  work.input.set(work.h.data(), static_cast<int>(wanted.size()), config_.hidden, step.pool);
  multiply(step, {{.w = &weights_.head, .y = work.logits.data(), .stride = config_.vocab}});
  return std::span<const float>(work.logits).first(size);
}

void Model::norm(Step& step, const std::vector<float>& x, const std::vector<float>& weight, std::vector<float>& out) {
  const std::size_t n = weight.size();
  step.each_row(
      [&](std::size_t row) { step.ops.rmsnorm(&x[row * n], weight.data(), n, config_.norm_eps, &out[row * n]); });
}

void Model::norm_heads(Step& step, std::vector<float>& x, int heads, const std::vector<float>& weight) {
  const std::size_t dim = weight.size();
  step.each_row([&](std::size_t row) {
    for (int head = 0; head < heads; ++head) {
      float* const values = &x[(row * static_cast<std::size_t>(heads) + static_cast<std::size_t>(head)) * dim];
      step.ops.rmsnorm(values, weight.data(), dim, config_.norm_eps, values);
    }
  });
}

void Model::multiply(Step& step, std::initializer_list<Product> products) {
  matmul(step.pool, step.work.input, std::span(products.begin(), products.size()));
}

void Model::add(Step& step, std::vector<float>& x, const std::vector<float>& y) {
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  step.each_row([&](std::size_t row) { step.ops.add(&x[row * hidden], &y[row * hidden], hidden); });
}

bool Model::writes(const Chunk& chunk, int layer) { return chunk.kv->spec().layers[LayerId{layer}].writes.has_value(); }

const Rope& Model::rope_of(const Workspace& work, int layer) const {
  return work.ropes[config_.windows[static_cast<std::size_t>(layer)] > 0 ? 1 : 0];
}

Model::Model(ModelFile file, ThreadPool& pool)
    : file_(std::move(file)), config_(ModelConfig::from(file_)), weights_(load_weights(file_, config_, pool)) {
  file_.release_pages();  // the packed weights are a copy
}

Model Model::load(const std::string& path, ThreadPool& pool) { return Model(ModelFile::open(path), pool); }

}  // namespace lamina
