// SPDX-License-Identifier: Apache-2.0
// From an ordinary model to one whose layers share K and V (LCKV, arXiv:2405.10637), as its authors initialise theirs
// before the training that it needs: W_k and W_v of a layer that keeps rows are the plain mean of those of all layers
// that read it, everything else is copied.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model_file.h"

namespace lamina {

struct LckvMap {
  std::string layer_types{};   // as config.json has it: "0_2_2_3"
  std::vector<int> targets{};  // the same without marks: [layer] the layer whose K and V it reads
  int window = 4096;           // of the layers that layer_types marks, in tokens
  int forward_passes = 7, backward_passes = 2;

  bool has_kv(int layer) const;
  std::vector<int> readers(int layer) const;
};

// A tensor of the result. Names of sources are GGUF's.
struct LckvTensor {
  std::string name;  // Hugging Face's
  std::vector<std::int64_t> shape;
  std::vector<std::string> sources{};  // several: their mean
  bool rotated = false;                // rows of heads that rope turns: GGUF keeps them in another order
};
// A model with an own head has lm_head.weight.
std::vector<LckvTensor> lckv_tensors(const ModelConfig& config, const LckvMap& map, bool own_head);
std::uint64_t parameters(const std::vector<LckvTensor>& tensors);
std::uint64_t kv_token_bytes(const ModelConfig& config, const LckvMap& map);  // K and V of one token in f16

// Error for all but an ordinary model of a Llama architecture.
void require_ordinary(const ModelFile& source, const ModelConfig& config);

// What is written: block formats hold scales in f16, which keeps three more bits of their products than bf16.
TensorType default_float_type(const ModelFile& source);

struct LckvResult {
  std::uint64_t parameters_before = 0, parameters_after = 0;
  std::uint64_t weight_bytes = 0;  // of model.safetensors
  std::uint64_t kv_token_bytes = 0;
  std::string no_tokenizer{};  // why the folder has no tokenizer.json, empty if it has one
};

// Writes the Hugging Face folder, which must not exist or be empty, under another name first: what fails half-way
// leaves nothing. `progress` gets the tensors done and all tensors, and may throw to stop. Error for a source that is
// not ordinary, and for what config.json cannot say of it.
LckvResult convert_lckv(const ModelFile& source, const LckvMap& map, TensorType type, const std::string& folder,
                        const std::function<void(std::size_t, std::size_t)>& progress);

}  // namespace lamina
