// SPDX-License-Identifier: Apache-2.0
#include "engine/map_trial.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "engine/statistics.h"
#include "kv/sequence.h"

namespace lamina {
namespace {

// One block of logits is this large at most: they are never held for all rows.
constexpr std::size_t kLogitsBytes = 32U << 20;

void add_rows(std::vector<double>& sum, std::size_t at, const float* rows, std::size_t size, double weight) {
  for (std::size_t i = 0; i < size; ++i) sum[at + i] += weight * static_cast<double>(rows[i]);
}

}  // namespace

MapTrial::MapTrial(Model& model, ThreadPool& pool, std::vector<std::vector<Token>> sentences, KvSpec spec, Feed feed)
    : model_(model),
      threads_(pool),
      sentences_(std::move(sentences)),
      spec_(std::move(spec)),
      blocks_(model.shape(), sentences_.size() * most_bytes(model.shape(), static_cast<Pos>(sentences_.at(0).size())),
              spec_.widest()) {
  require(spec_.probes() == 0, "\"{}\" asks the model about every prompt, which a search over maps cannot do",
          spec_.text());
  plan_steps(feed);
  current_.resize(steps_.size());
  tried_.resize(steps_.size());
  current_map_ = own_targets(model.shape());
  this->feed(current_map_, 0);
  std::swap(current_, tried_);
  tried_map_.clear();
}

void MapTrial::plan_steps(Feed feed) {
  const int tokens = static_cast<int>(sentences_.front().size());
  const bool whole = feed == Feed::kPrompt;
  const int prompt = whole ? tokens : tokens / 2;
  const int grid = spec_.grid > 0 ? spec_.grid : prompt;
  for (int first = 0; first < prompt; first += grid) {
    const int n = std::min(grid, prompt - first);
    const Phase phase = first + n == prompt ? Phase::kPromptEnd : Phase::kPrompt;
    steps_.push_back({.first = first, .tokens = n, .phase = phase, .judged = whole});
  }
  for (int token = prompt; token < tokens; ++token)
    steps_.push_back({.first = token, .tokens = 1, .phase = Phase::kDecode, .judged = true});
}

const std::vector<float>& MapTrial::run(const std::vector<int>& target) {
  const auto first = std::ranges::mismatch(target, current_map_).in1 - target.begin();
  if (static_cast<std::size_t>(first) == target.size()) {
    collect(current_);
    return states_;
  }
  feed(target, first_run(static_cast<int>(first)));
  collect(tried_);
  return states_;
}

const std::vector<float>& MapTrial::run(const OneHead& head, int source) {
  LayerMap layers = LayerMap::from_targets(current_map_, model_.shape());
  assert(source < index(head.layer) && layers[head.layer].writes && layers[LayerId{source}].writes);
  layers.routes[static_cast<std::size_t>(index(head.layer))].reads = *layers[LayerId{source}].writes;
  feed(std::move(layers), head, first_run(index(head.layer)));
  collect(tried_);
  return states_;
}

void MapTrial::adopt(const std::vector<int>& target) {
  const auto first = std::ranges::mismatch(target, current_map_).in1 - target.begin();
  if (static_cast<std::size_t>(first) == target.size()) return;
  if (target != tried_map_) feed(target, first_run(static_cast<int>(first)));
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    std::swap_ranges(current_[step].layers.begin() + first, current_[step].layers.end(),
                     tried_[step].layers.begin() + first);
    std::swap(current_[step].h, tried_[step].h);
  }
  current_map_ = target;
  tried_map_.clear();  // its states are gone
}

// Layers whose states are known are not run, but where a token policy wants to see their attention.
int MapTrial::first_run(int first_changed) const { return spec_.observes() && !spec_.prunes() ? 0 : first_changed; }

void MapTrial::feed(const std::vector<int>& target, int first_layer) {
  feed(LayerMap::from_targets(target, model_.shape()), std::nullopt, first_layer);
  tried_map_ = target;
}

// Runs all sentences side by side under the map, from `first_layer` on.
void MapTrial::feed(LayerMap layers, const std::optional<OneHead>& only, int first_layer) {
  KvSpec spec = spec_;
  spec.layers = std::move(layers);
  spec.only = only;
  assert(!spec.layers.cyclic());
  const auto shared_spec = std::make_shared<const KvSpec>(std::move(spec));
  std::vector<KvSequence> sequences;
  for (std::size_t i = 0; i < sentences_.size(); ++i) sequences.emplace_back(shared_spec, model_.shape(), blocks_);
  std::vector<KvSequence*> all;
  all.reserve(sequences.size());
  for (KvSequence& sequence : sequences) all.push_back(&sequence);
  tried_map_.clear();
  const auto prompt = std::ranges::find(steps_, Phase::kPromptEnd, &Fed::phase);
  for (KvSequence& sequence : sequences) sequence.expect_prompt(prompt->first + prompt->tokens);
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    const Fed& fed = steps_[step];
    std::vector<Chunk> chunks;
    for (std::size_t i = 0; i < sentences_.size(); ++i)
      chunks.push_back(
          {.kv = &sequences[i],
           .tokens = std::span<const Token>(sentences_[i])
                         .subspan(static_cast<std::size_t>(fed.first), static_cast<std::size_t>(fed.tokens)),
           .logits = Chunk::Logits::kNone,
           .prompt = fed.phase != Phase::kDecode});
    model_.resume(chunks, work_, threads_, current_[step], first_layer, tried_[step]);
    commit_all(all, fed.phase, fed.tokens, threads_);
  }
}

void MapTrial::collect(const std::vector<StepTrace>& traces) {
  const auto hidden = static_cast<std::size_t>(model_.config().hidden);
  states_.clear();
  for (std::size_t i = 0; i < sentences_.size(); ++i)
    for (std::size_t step = 0; step < steps_.size(); ++step) {
      if (!steps_[step].judged) continue;
      const auto size = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(steps_[step].tokens) * hidden);
      const auto begin = traces[step].h.begin() + static_cast<std::ptrdiff_t>(i) * size;
      states_.insert(states_.end(), begin, begin + size);
    }
}

std::vector<LayerRows> MapTrial::mean_rows() const {
  const KvShape shape = model_.shape();
  const std::size_t width = static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim);
  const std::size_t size = sentences_.front().size() * width;
  std::vector<LayerRows> layers(static_cast<std::size_t>(shape.layers),
                                {.k = std::vector<double>(size), .v = std::vector<double>(size)});
  const double weight = 1 / static_cast<double>(sentences_.size());
  for (std::size_t layer = 0; layer < layers.size(); ++layer)
    for (std::size_t step = 0; step < steps_.size(); ++step) {
      const StepTrace::Layer& trace = current_[step].layers[layer];
      const std::size_t at = static_cast<std::size_t>(steps_[step].first) * width;
      const std::size_t rows = static_cast<std::size_t>(steps_[step].tokens) * width;  // of one sentence
      assert(trace.k.size() == sentences_.size() * rows);
      for (std::size_t i = 0; i < sentences_.size(); ++i) {
        add_rows(layers[layer].k, at, &trace.k[i * rows], rows, weight);
        add_rows(layers[layer].v, at, &trace.v[i * rows], rows, weight);
      }
    }
  return layers;
}

double mean_cosine(std::span<const float> a, std::span<const float> b, std::size_t sentences) {
  assert(a.size() == b.size() && sentences > 0 && a.size() % sentences == 0);
  const std::size_t size = a.size() / sentences;
  double sum = 0;
  for (std::size_t begin = 0; begin < a.size(); begin += size) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = begin; i < begin + size; ++i) {
      const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    sum += ab / (std::sqrt(aa) * std::sqrt(bb));
  }
  return sum / static_cast<double>(sentences);
}

OutputKl::OutputKl(const Model& model, ThreadPool& pool, std::span<const float> base)
    : model_(model),
      pool_(pool),
      hidden_(static_cast<std::size_t>(model.config().hidden)),
      vocab_(static_cast<std::size_t>(model.config().vocab)),
      base_(sample(base)) {
  assert(!base_.empty());
  const std::size_t block = std::clamp<std::size_t>(kLogitsBytes / sizeof(float) / vocab_, 1, base_.size() / hidden_);
  base_logits_.resize(block * vocab_);
  other_logits_.resize(block * vocab_);
}

double OutputKl::operator()(std::span<const float> states) {
  const std::vector<float> other = sample(states);
  const std::size_t rows = base_.size() / hidden_, block = base_logits_.size() / vocab_;
  assert(other.size() == base_.size());
  std::vector<double> kl(rows);
  for (std::size_t begin = 0; begin < rows; begin += block) {
    const std::size_t n = std::min(block, rows - begin);
    project(base_, begin, n, base_logits_);
    project(other, begin, n, other_logits_);
    pool_.parallel_for(static_cast<int>(n), [&](int task, int) {
      const auto row = static_cast<std::size_t>(task);
      const auto of = [&](const std::vector<float>& x) { return std::span(x).subspan(row * vocab_, vocab_); };
      kl[begin + row] = compare_token(of(base_logits_), of(other_logits_), 0).kl;
    });
  }
  return std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(rows);
}

std::vector<float> OutputKl::sample(std::span<const float> states) const {
  assert(states.size() % hidden_ == 0);
  std::vector<float> rows;
  for (std::size_t end = kKlStride * hidden_; end <= states.size(); end += kKlStride * hidden_)
    rows.insert(rows.end(), &states[end - hidden_], &states[end - hidden_] + hidden_);
  return rows;
}

void OutputKl::project(const std::vector<float>& states, std::size_t first, std::size_t rows,
                       std::vector<float>& logits) {
  inputs_.assign(rows, Inputs::kFine);
  input_.set(&states[first * hidden_], inputs_, static_cast<int>(hidden_), pool_);
  const Product head{.w = &model_.weights().head, .y = logits.data(), .stride = static_cast<std::ptrdiff_t>(vocab_)};
  matmul(pool_, input_, {&head, 1});
}

}  // namespace lamina
