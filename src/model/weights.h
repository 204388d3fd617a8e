// SPDX-License-Identifier: Apache-2.0
// The model's weights, packed for the kernels. Shapes are [rows][cols] with y = W x.
#pragma once
#include <vector>

#include "base/thread_pool.h"
#include "model/config.h"
#include "model/matrix.h"
#include "model/model_file.h"

namespace lamina {

struct LayerWeights {
  std::vector<float> attention_norm;       // [hidden]
  Matrix q;                                // [heads * head_dim][hidden]
  Matrix k, v;                             // [kv_heads * head_dim][hidden], empty unless the config has_kv(layer)
  std::vector<float> q_norm, k_norm;       // [head_dim], gemma3
  Matrix o;                                // [hidden][heads * head_dim]
  std::vector<float> attention_post_norm;  // [hidden], gemma3
  std::vector<float> ffn_norm;             // [hidden]
  Matrix gate, up;                         // [ffn][hidden]
  Matrix down;                             // [hidden][ffn]
  std::vector<float> ffn_post_norm;        // [hidden], gemma3

  bool has_kv() const { return k.rows() > 0; }
};

struct Weights {
  TensorView embedding;  // [vocab][hidden], as the file has it: one row is read per token
  std::vector<LayerWeights> layers;
  std::vector<float> norm;  // [hidden]
  Matrix head;              // [vocab][hidden]; packed from the embedding where the file has no output.weight

  std::size_t bytes() const;  // of the packed weights
};

// Error for a tensor that is missing, has another shape, or is not known: a model that would silently run without
// some of its weights would print gibberish. K and V of layers that have none are ignored where a file holds them, as
// an ordinary checkpoint under a trained map does.
Weights load_weights(const ModelFile& file, const ModelConfig& config, ThreadPool& pool);

}  // namespace lamina
