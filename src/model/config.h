// SPDX-License-Identifier: Apache-2.0
// ModelConfig: what the forward pass needs to know, read from a file's metadata and checked.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attention/rope.h"
#include "kv/types.h"

namespace lamina {

class GgufFile;
class HfFolder;
class ModelFile;

// Limits of what a file may claim: far above real models, low enough that products of two fit 64 bits. Widths of
// heads together are held below it too, so that they fit an int.
constexpr std::int64_t kMostCount = 1 << 24;
constexpr int kMostLayers = 10000;
constexpr int kMostHeadDim = 512;

enum class Architecture { kLlama, kGemma3 };

struct ModelConfig {
  Architecture architecture{};
  std::string name;  // general.name, or the file's or folder's name
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

  // Whether the layer has K and V weights: of a model with targets only those do that are one.
  bool has_kv(int layer) const;

  // Error for another architecture, a missing or impossible value.
  static ModelConfig from(const ModelFile& file);
};

// What each kind of file says beside its tensors: all but `vocab` and `fingerprint`. For ModelConfig::from.
ModelConfig read_config(const GgufFile& file);
ModelConfig read_config(const HfFolder& folder);

// What the KV store knows of the model.
KvShape kv_shape(const ModelConfig& config);

}  // namespace lamina
