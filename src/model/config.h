// SPDX-License-Identifier: Apache-2.0
// ModelConfig: what the forward pass needs to know, read from a file's metadata and checked.
#pragma once
#include <string>
#include <vector>

#include "attention/rope.h"
#include "kv/types.h"
#include "model/gguf.h"

namespace lamina {

enum class Architecture { kLlama, kGemma3 };

struct ModelConfig {
  Architecture architecture{};
  std::string name;  // general.name, or the file's name
  int layers = 0;
  int hidden = 0;
  int ffn = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;  // of queries, keys and values
  int vocab = 0;
  Pos context = 0;  // trained context length
  float norm_eps = 0;
  float attention_scale = 0;  // scores are scale * (q . k)
  float embedding_scale = 1;
  std::vector<Pos> windows;  // [layer] sliding window in tokens, own included; 0 = none
  std::vector<int> targets;  // [layer] the layer whose K and V it reads, of a model trained so; empty: its own
  bool no_diagonal = false;  // LCKV's force_nodiag
  int forward_passes = 7, backward_passes = 2;  // LCKV
  std::string fingerprint;                      // hex SHA-256 of the tensors' names and shapes
  RopeConfig rope;                              // layers without a window
  RopeConfig window_rope;                       // layers with one

  const RopeConfig& rope_of(int layer) const { return windows[static_cast<std::size_t>(layer)] ? window_rope : rope; }

  // Error for another architecture, a missing or impossible value.
  static ModelConfig from(const GgufFile& file);
};

// What the KV store knows of the model.
KvShape kv_shape(const ModelConfig& config);

}  // namespace lamina
