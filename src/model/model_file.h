// SPDX-License-Identifier: Apache-2.0
// What a model is read from: a GGUF file or a Hugging Face folder. Both offer tensors by their GGUF names; what each
// says of the model beside them is read in gguf_config.cpp and hf_config.cpp.
#pragma once
#include <string>
#include <utility>
#include <variant>

#include "model/gguf.h"
#include "model/hf_folder.h"

namespace lamina {

class ModelFile {
 public:
  static ModelFile open(const std::string& path);  // a folder: Hugging Face, anything else: GGUF
  ModelFile(GgufFile file) : source_(std::move(file)) {}
  ModelFile(HfFolder folder) : source_(std::move(folder)) {}

  const GgufFile* gguf() const { return std::get_if<GgufFile>(&source_); }    // null if it is a folder
  const HfFolder* folder() const { return std::get_if<HfFolder>(&source_); }  // null if it is a GGUF file

  const std::string& path() const;
  std::string architecture() const;  // as the file says: "llama", "lckv-llama"
  const TensorTable& tensors() const;
  void release_pages() const;  // MappedFile::release_pages

 private:
  std::variant<GgufFile, HfFolder> source_;
};

}  // namespace lamina
