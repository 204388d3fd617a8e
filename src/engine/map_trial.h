// SPDX-License-Identifier: Apache-2.0
// MapTrial: what layer maps make of a model's output on sentences of one length. A map costs only the layers from the
// first one on where it differs from the current map: what is below comes from that map's recorded states.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kv/layers/kvsharer_ranking.h"
#include "kv/spec.h"
#include "model/forward.h"

namespace lamina {

class MapTrial {
 public:
  enum class Feed {
    kPrompt,  // each sentence is one prompt, all its tokens are judged
    kHalves,  // half of each sentence is a prompt, then the spec commits; the other half is fed token by token and
              // judged
  };

  // Runs the model with every layer for itself. `spec` is of the token and bits axes: its layers are left aside.
  MapTrial(Model& model, ThreadPool& pool, std::vector<std::vector<Token>> sentences, KvSpec spec, Feed feed);

  // The judged tokens' states after the final norm, [sentence][judged token][hidden], valid until the next call. No
  // layer of the map reads one above it.
  const std::vector<float>& run(const std::vector<int>& target);
  // The same where of the current map only this KV head reads the rows of a lower layer.
  const std::vector<float>& run(const OneHead& head, int source);
  // Makes the map the current one.
  void adopt(const std::vector<int>& target);

  // [step] what the model does under the current map, all sentences side by side.
  const std::vector<StepTrace>& traces() const { return current_; }
  // K and V of each layer as appended under the current map, averaged over the sentences.
  std::vector<LayerRows> mean_rows() const;

  std::size_t sentences() const { return sentences_.size(); }

 private:
  // A step takes these tokens of each sentence.
  struct Fed {
    int first, tokens;
    Phase phase;
    bool judged;
  };

  void plan_steps(Feed feed);
  int first_run(int first_changed) const;
  void feed(const std::vector<int>& target, int first_layer);
  void feed(LayerMap layers, const std::optional<OneHead>& only, int first_layer);
  void collect(const std::vector<StepTrace>& traces);

  Model& model_;
  ThreadPool& threads_;
  std::vector<std::vector<Token>> sentences_;
  KvSpec spec_;
  std::vector<Fed> steps_;
  BlockPool blocks_;
  Workspace work_;
  std::vector<int> current_map_, tried_map_;
  std::vector<StepTrace> current_, tried_;  // [step]; of `tried_` only the layers that were run
  std::vector<float> states_;
};

// The mean over sentences of the cosine between the two states of each as one vector, in double.
double mean_cosine(std::span<const float> a, std::span<const float> b, std::size_t sentences);

// How far the model's output moves from that of base states: the mean of KL(base || other) over every kKlStride-th row,
// for neighbours tell much the same. Logits are made for a few rows at a time: those of all would fill the memory.
class OutputKl {
 public:
  static constexpr std::size_t kKlStride = 4;

  // base: [row][hidden] after the final norm, at least kKlStride rows.
  OutputKl(const Model& model, ThreadPool& pool, std::span<const float> base);
  double operator()(std::span<const float> states);

 private:
  std::vector<float> sample(std::span<const float> states) const;
  void project(const std::vector<float>& states, std::size_t first, std::size_t rows, std::vector<float>& logits);

  const Model& model_;
  ThreadPool& pool_;
  std::size_t hidden_, vocab_;
  std::vector<float> base_;                        // [sampled row][hidden]
  std::vector<float> base_logits_, other_logits_;  // [row of a block][vocab]
  Activations input_;
  std::vector<Inputs> inputs_;
};

}  // namespace lamina
