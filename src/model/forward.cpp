// SPDX-License-Identifier: Apache-2.0
// The transformer, top to bottom: where the model meets the cache and attention (and forward_prune.cpp).
#include "model/forward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <utility>

#include "attention/work.h"
#include "base/error.h"
#include "model/dequant.h"
#include "model/forward_step.h"
#include "model/token_classes.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

bool all_finite(const float* x, std::size_t n) {
  std::uint32_t bad = 0;  // in integers, which the compiler vectorises
  for (std::size_t i = 0; i < n; ++i)
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(x[i]) & 0x7f800000U) == 0x7f800000U);
  return bad == 0;
}

}  // namespace

std::span<const float> Model::forward(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool) {
  const std::size_t size = start(chunks, work);
  if (std::none_of(chunks.begin(), chunks.end(), iterates)) {
    Step step{.chunks = chunks, .work = work, .pool = pool, .ops = kernels(work.isa)};
    run(step);
  } else {
    std::size_t done = 0;
    for (const Chunk& chunk : chunks) done += run(chunk, work, pool, done);
  }
  return std::span<const float>(work.logits).first(size);
}

std::span<const float> Model::record(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool, StepTrace& to) {
  return resume(chunks, work, pool, to, 0, to);
}

std::span<const float> Model::resume(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool,
                                     const StepTrace& from, int first, StepTrace& to) {
  assert(std::none_of(chunks.begin(), chunks.end(), iterates));
  const std::size_t size = start(chunks, work);
  to.layers.resize(static_cast<std::size_t>(config_.layers));
  Step step{.chunks = chunks,
            .work = work,
            .pool = pool,
            .ops = kernels(work.isa),
            .to = &to,
            .from = &from,
            .first_layer = first};
  run(step);
  return std::span<const float>(work.logits).first(size);
}

// Makes room for the logits of a call; how many floats they are.
std::size_t Model::start(std::span<const Chunk> chunks, Workspace& work) const {
  std::size_t rows = 0;
  for (const Chunk& chunk : chunks) {
    assert(chunk.kv != nullptr && !chunk.tokens.empty());
    require(chunk.logits != Chunk::Logits::kAll || !chunk.prompt || !chunk.kv->spec().prunes(),
            "under \"{}\" tokens of a prompt do not reach the last layer, so they have no logits; continuations of a "
            "prompt have (eval ppl: --prompt and --score)",
            chunk.kv->spec().text());
    rows += chunk.logits == Chunk::Logits::kAll ? chunk.tokens.size() : chunk.logits == Chunk::Logits::kLast ? 1 : 0;
  }
  const std::size_t size = rows * static_cast<std::size_t>(config_.vocab);
  if (work.logits.size() < size) work.logits.resize(size);
  return size;
}

// Several tokens of a map that reads upwards: one pass over the layers is not enough.
bool Model::iterates(const Chunk& chunk) { return chunk.tokens.size() > 1 && chunk.kv->spec().layers.cyclic(); }

// One chunk by itself; returns its rows of logits.
std::size_t Model::run(const Chunk& chunk, Workspace& work, ThreadPool& pool, std::size_t logits) {
  if (!iterates(chunk) || chunk.tokens.size() > static_cast<std::size_t>(chunk.kv->spec().layers.iterations)) {
    Step step{.chunks = {&chunk, 1}, .work = work, .pool = pool, .ops = kernels(work.isa), .logits = logits};
    return run(step);
  }
  std::size_t rows = 0;
  for (std::size_t t = 0; t < chunk.tokens.size(); ++t) {
    Chunk token = chunk;
    token.tokens = chunk.tokens.subspan(t, 1);
    if (chunk.logits == Chunk::Logits::kLast && t + 1 < chunk.tokens.size()) token.logits = Chunk::Logits::kNone;
    Step step{.chunks = {&token, 1},
              .work = work,
              .pool = pool,
              .ops = kernels(work.isa),
              .logits = logits + rows,
              .ahead = static_cast<Pos>(t)};
    rows += run(step);
  }
  return rows;
}

std::size_t Model::run(Step& step) {
  begin(step);
  const Chunk& chunk = step.chunks.front();
  if (step.first_layer == 0) embed(step);
  if (step.chunks.size() > 1 || !iterates(chunk)) {
    for (int layer = 0; layer < step.first_layer; ++layer) replay(step, layer);
    run(step, step.first_layer, config_.layers);
    return head(step);
  }
  const LayerMap& map = chunk.kv->spec().layers;
  for (const Pass& pass : map.passes) {
    if (pass.iterated) step.work.pass_x = step.work.x;
    for (int i = 0; i < (pass.iterated ? map.iterations : 1); ++i) {
      if (i > 0) step.work.x = step.work.pass_x;
      run(step, pass.first, pass.last);
    }
  }
  return head(step);
}

void Model::run(Step& step, int first, int last) {
  for (int layer = first; layer < last; ++layer) {
    attention(step, layer);
    feed_forward(step, layer);
    if (layer + 1 < config_.layers) prune(step, layer);
  }
}

// A layer whose states are known: its rows are appended, nothing is computed.
void Model::replay(Step& step, int layer) {
  const StepTrace::Layer& known = step.from->layers[static_cast<std::size_t>(layer)];
  const std::size_t width = static_cast<std::size_t>(config_.kv_heads) * static_cast<std::size_t>(config_.head_dim);
  step.take_rows(known);
  step.each_chunk([&](const Chunk& chunk, std::size_t row, std::size_t n) {
    if (writes(chunk, layer))
      chunk.kv->append(LayerId{layer}, step.positions(row, n), &known.k[row * width], &known.v[row * width]);
  });
  if (layer + 1 == step.first_layer) {
    const StepTrace::Layer& next = step.from->layers[static_cast<std::size_t>(step.first_layer)];
    step.take_rows(next);
    std::copy(next.x.begin(), next.x.end(), step.work.x.begin());
  }
}

void Model::attention(Step& step, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace& work = step.work;
  if (step.to) {
    const auto end = work.x.begin() + static_cast<std::ptrdiff_t>(step.tokens) * config_.hidden;
    StepTrace::Layer& trace = step.to->layers[static_cast<std::size_t>(layer)];
    trace.rows = step.rows;
    trace.positions = work.positions;
    trace.x.assign(work.x.begin(), end);
  }
  norm(step, work.x, w.attention_norm, work.h);
  project(step, layer);
  append(step, layer);
  attend_rows(step, layer);
  set_input(step, work.attended.data(), work.inputs, config_.heads * config_.head_dim);
  multiply(step, Op::kOutput, {{.w = &w.o, .y = work.h.data(), .stride = config_.hidden}});
  if (!w.attention_post_norm.empty()) norm(step, work.h, w.attention_post_norm, work.h);
  add(step, work.x, work.h);
}

void Model::feed_forward(Step& step, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace& work = step.work;
  norm(step, work.x, w.ffn_norm, work.h);
  set_input(step, work.h.data(), work.inputs, config_.hidden);
  multiply(step, Op::kGateUp,
           {{.w = &w.gate, .y = work.gate.data(), .stride = config_.ffn},
            {.w = &w.up, .y = work.up.data(), .stride = config_.ffn}});
  activate(step);
  set_input(step, work.gate.data(), work.inputs, config_.ffn);
  multiply(step, Op::kDown, {{.w = &w.down, .y = work.h.data(), .stride = config_.hidden}});
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
  set_input(step, work.h.data(), work.inputs, config_.hidden);
  if (std::all_of(step.chunks.begin(), step.chunks.end(), [&](const Chunk& c) { return writes(c, layer); })) {
    const auto [keys, values] = keys_values(0);
    multiply(step, Op::kQkv, {queries, keys, values});
    kv_products_ += step.tokens;
  } else {
    multiply(step, Op::kQkv, {queries});
    step.each_chunk([&](const Chunk& chunk, std::size_t row, std::size_t n) {
      if (!writes(chunk, layer)) return;
      const float* const h = &work.h[row * static_cast<std::size_t>(config_.hidden)];
      set_input(step, h, step.inputs(row, n), config_.hidden);
      const auto [keys, values] = keys_values(row);
      multiply(step, Op::kQkv, {keys, values});
      kv_products_ += n;
    });
  }
  if (!w.q_norm.empty()) norm_heads(step, work.q, config_.heads, w.q_norm);
  if (!w.k_norm.empty()) norm_heads(step, work.k, config_.kv_heads, w.k_norm);
}

void Model::append(Step& step, int layer) {
  Workspace& work = step.work;
  const Rope& rope = rope_of(work, layer);
  const auto dim = static_cast<std::size_t>(config_.head_dim), width = dim * static_cast<std::size_t>(config_.kv_heads);
  const bool any =
      std::any_of(step.chunks.begin(), step.chunks.end(), [&](const Chunk& c) { return writes(c, layer); });
  // rope goes over the keys, then both are read; of a number of keys it takes three operations
  const Timed timed =
      step.time_each(Op::kAppend, any ? step.tokens * width : 0, {.bytes = 4 * sizeof(float), .f32_ops = 3});
  if (any)
    step.each_row([&](std::size_t row) {
      for (std::size_t c = 0; c < width; c += dim) rope.rotate(&work.k[row * width + c], work.positions[row]);
    });
  if (step.to) {
    StepTrace::Layer& trace = step.to->layers[static_cast<std::size_t>(layer)];
    const auto size = static_cast<std::ptrdiff_t>(any ? step.tokens * width : 0);
    trace.k.assign(work.k.begin(), work.k.begin() + size);
    trace.v.assign(work.v.begin(), work.v.begin() + size);
  }
  step.each_sequence_apart([&](std::size_t i, const Chunk& chunk, std::size_t row, std::size_t n) {
    if (!writes(chunk, layer)) return;
    const float *const k = &work.k[row * width], *const v = &work.v[row * width];
    KvSequence& kv = *step.sequences[i].kv;
    require(&kv != chunk.kv || (all_finite(k, n * width) && all_finite(v, n * width)),
            "{}: layer {} computed keys or values that are not finite numbers", file_.path(), layer);
    kv.append(LayerId{layer}, step.positions(row, n), k, v);
  });
}

// Queries are handed over unrotated: attention rotates them once for each position shift among the segments.
void Model::attend_rows(Step& step, int layer) {
  Workspace& work = step.work;
  const std::size_t width = static_cast<std::size_t>(config_.heads) * static_cast<std::size_t>(config_.head_dim);
  const AttentionShape shape{.heads = config_.heads,
                             .kv_heads = config_.kv_heads,
                             .head_dim = config_.head_dim,
                             .scale = config_.attention_scale};
  const auto observes = [](const Chunk& chunk) {
    bool any = false;
    chunk.each_sequence([&](KvSequence& kv) { any |= kv.spec().observes(); });
    return any;
  };
  const auto query_of = [&](KvSequence& kv, const Chunk& chunk, std::size_t row, std::size_t n) -> Query {
    const Route& route = kv.spec().layers[LayerId{layer}];
    return {.q = &work.q[row * width],
            .pos = step.positions(row, n),
            .segments = kv.segments(LayerId{layer}),
            .out = &kv == chunk.kv ? &work.attended[row * width] : nullptr,
            .sees = {.window = route.window, .lagged = route.lagged},
            .lse = observes(chunk) ? &work.lse[row * static_cast<std::size_t>(config_.heads)] : nullptr,
            .prompt = chunk.prompt,
            .rotate = kv.spec().rotate,
            .observation = kv.observe(LayerId{layer}, static_cast<int>(chunk.tokens.size()), chunk.prompt)};
  };
  work.queries.resize(step.sequences.size());
  step.each_sequence_apart([&](std::size_t i, const Chunk& chunk, std::size_t row, std::size_t n) {
    work.queries[i] = query_of(*step.sequences[i].kv, chunk, row, n);
  });
  const bool prompt = std::ranges::any_of(step.chunks, &Chunk::prompt);
  const Timed timed = step.time(prompt ? Op::kAttendPrompt : Op::kAttendDecode,
                                [&] { return attention_work(attend_kernels(work.isa), shape, work.queries); });
  attend(step.pool, step.chunks.front().kv->memory(), shape, rope_of(work, layer), work.queries, work.attention);
}

void Model::begin(Step& step) {
  Workspace& work = step.work;
  work.positions.clear();
  step.rows.clear();
  step.sequences.clear();
  for (const Chunk& chunk : step.chunks) {
    step.rows.push_back(chunk.tokens.size());
    chunk.each_sequence([&](KvSequence& kv) { step.sequences.push_back({&kv, step.rows.size() - 1}); });
    Pos pos = chunk.kv->next() + step.ahead;
    for (const Token token : chunk.tokens) {
      require(token >= 0 && token < config_.vocab, "token {} is not in the vocabulary of {}", token, config_.vocab);
      work.positions.push_back(pos++);
    }
    chunk.each_sequence([&](KvSequence& kv) { note_classes(kv, chunk.tokens, step.ahead); });
  }
  step.tokens = work.positions.size();
  step.mark_inputs();
  const Pos end = *std::max_element(work.positions.begin(), work.positions.end()) + 1;
  if (work.ropes.empty()) work.ropes = {Rope(config_.rope, work.isa), Rope(config_.window_rope, work.isa)};
  for (Rope& rope : work.ropes) rope.reserve(end);
  const auto grow = [&](std::vector<float>& buffer, int width) {
    const std::size_t size = step.tokens * static_cast<std::size_t>(width);
    if (buffer.size() < size) buffer.resize(size);
  };
  for (auto* buffer : {&work.x, &work.h}) grow(*buffer, config_.hidden);
  for (auto* buffer : {&work.q, &work.attended}) grow(*buffer, config_.heads * config_.head_dim);
  for (auto* buffer : {&work.k, &work.v}) grow(*buffer, config_.kv_heads * config_.head_dim);
  grow(work.lse, config_.heads);
  for (auto* buffer : {&work.gate, &work.up}) grow(*buffer, config_.ffn);
}

void Model::note_classes(KvSequence& kv, std::span<const Token> tokens, Pos ahead) {
  if (!kv.wants_classes()) return;
  if (classes_.empty()) classes_ = token_classes(load_tokenizer(file_));
  classes_.resize(static_cast<std::size_t>(config_.vocab), TokenClass::kOther);  // a model may pad its embedding
  std::vector<TokenClass> classes;
  classes.reserve(tokens.size());
  for (const Token token : tokens) classes.push_back(classes_[static_cast<std::size_t>(token)]);
  kv.note_classes(kv.next() + ahead, classes);
}

void Model::embed(Step& step) {
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const TensorView& table = weights_.embedding;
  const std::size_t row_bytes = table.data.size() / static_cast<std::size_t>(table.rows());
  const Timed timed = step.time(Op::kEmbed, [&] {
    return static_cast<double>(step.tokens) * Work{.bytes = static_cast<double>(row_bytes + hidden * sizeof(float))};
  });
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
  // Each row brings a page of the file and its neighbours, in time the whole table.
  constexpr std::size_t kMostRows = 256;
  if ((embedded_ += step.tokens) < kMostRows) return;
  file_.release_pages();
  embedded_ = 0;
}

// Appends the wanted rows of logits; returns how many they are.
std::size_t Model::head(Step& step) {
  Workspace& work = step.work;
  const auto hidden = static_cast<std::size_t>(config_.hidden), vocab = static_cast<std::size_t>(config_.vocab);
  if (step.to) {
    step.to->h.resize(step.tokens * hidden);
    norm(step, work.x, weights_.norm, step.to->h);
  }
  std::vector<std::size_t> wanted;
  step.each_chunk([&](const Chunk& chunk, std::size_t row, std::size_t n) {
    if (chunk.logits == Chunk::Logits::kLast) wanted.push_back(row + n - 1);
    for (std::size_t i = 0; chunk.logits == Chunk::Logits::kAll && i < n; ++i) wanted.push_back(row + i);
  });
  if (wanted.empty()) return 0;
  norm_last(step, wanted);
  work.head_inputs.assign(wanted.size(), Inputs::kFine);  // of a prompt mostly one row
  set_input(step, work.h.data(), work.head_inputs, config_.hidden);
  multiply(step, Op::kHead, {{.w = &weights_.head, .y = &work.logits[step.logits * vocab], .stride = config_.vocab}});
  return wanted.size();
}

bool Model::writes(const Chunk& chunk, int layer) { return chunk.kv->spec().layers[LayerId{layer}].writes.has_value(); }

const Rope& Model::rope_of(const Workspace& work, int layer) const {
  return work.ropes[config_.windows[static_cast<std::size_t>(layer)] > 0 ? 1 : 0];
}

Model::Model(ModelFile file, ThreadPool& pool)
    : file_(std::move(file)), config_(ModelConfig::from(file_)), weights_(load_weights(file_, config_, pool)) {}

Model Model::load(const std::string& path, ThreadPool& pool) { return Model(ModelFile::open(path), pool); }

}  // namespace lamina
