// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/sha256.h"
#include "model/model_file.h"

namespace lamina {
namespace {

int vocabulary(const ModelFile& file) {
  const TensorView& embedding = file.tensors().tensor("token_embd.weight");
  require(embedding.shape.size() == 2 && embedding.rows() <= kMostCount,
          "{}: tensor \"token_embd.weight\" has {} rows in {}"
          " dimensions, expected a matrix of at most {}",
          file.path(), embedding.rows(), embedding.shape.size(), kMostCount);
  return static_cast<int>(embedding.rows());
}

// Of what makes two models exchangeable for a file of calibrated layers: their kind, and which tensors of which shapes
// they compute with. Files of one model differ in the rest: what is stored beside it, types, order, splits.
std::string fingerprint_of(const ModelFile& file, const ModelConfig& config) {
  std::set<std::string> lines;  // sorted
  std::set<std::string> unused = {"rope_freqs.weight"};
  for (int layer = 0; layer < config.layers; ++layer)
    if (!config.has_kv(layer))
      for (const char* matrix : {"k", "v"}) unused.insert(fmt::format("blk.{}.attn_{}.weight", layer, matrix));
  for (const TensorView& tensor : file.tensors())
    if (!unused.contains(tensor.name)) lines.insert(fmt::format("{} {}\n", tensor.name, fmt::join(tensor.shape, " ")));
  return sha256_hex(fmt::format("{} {}\n{}", config.architecture == Architecture::kGemma3 ? "gemma3" : "llama",
                                config.layers, fmt::join(lines, "")));
}

}  // namespace

bool ModelConfig::has_kv(int layer) const {
  return targets.empty() || std::find(targets.begin(), targets.end(), layer) != targets.end();
}

ModelConfig ModelConfig::from(const ModelFile& file) {
  ModelConfig config = file.gguf() ? read_config(*file.gguf()) : read_config(*file.folder());
  config.vocab = vocabulary(file);
  config.fingerprint = fingerprint_of(file, config);
  return config;
}

KvShape kv_shape(const ModelConfig& config) {
  KvShape shape;
  shape.layers = config.layers;
  shape.kv_heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  shape.query_group = config.heads / config.kv_heads;
  shape.windows = config.windows;
  shape.fingerprint = config.fingerprint;
  shape.targets = config.targets;
  shape.no_diagonal = config.no_diagonal;
  shape.forward_passes = config.forward_passes;
  shape.backward_passes = config.backward_passes;
  return shape;
}

}  // namespace lamina
