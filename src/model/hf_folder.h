// SPDX-License-Identifier: Apache-2.0
// A Hugging Face folder: config.json, and model.safetensors or the files that model.safetensors.index.json names.
// Tensors go by their GGUF names: "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight" here.
#pragma once
#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "model/tensor.h"

namespace lamina {

// What Hugging Face calls the tensor of this GGUF name, "" if nothing.
std::string hf_name(std::string_view gguf_name);

class HfFolder {
 public:
  // Error for a file that is missing or wrong, and for a tensor whose name is not known.
  static HfFolder open(const std::string& path);

  const std::string& path() const { return path_; }
  std::string config_path() const { return path_ + "/config.json"; }
  const nlohmann::json& config() const { return *config_; }  // an object
  std::string model_type() const;                            // of the config, "llama"
  const TensorTable& tensors() const { return tensors_; }
  void release_pages() const;  // of all safetensors files: MappedFile::release_pages

 private:
  explicit HfFolder(const std::string& path);
  std::set<std::string> add_file(const std::string& name);  // the file's own names of its tensors

  std::string path_;
  std::shared_ptr<const nlohmann::json> config_;
  std::vector<MappedFile> files_;
  TensorTable tensors_;
};

}  // namespace lamina
