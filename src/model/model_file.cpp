// SPDX-License-Identifier: Apache-2.0
#include "model/model_file.h"

#include <filesystem>

namespace lamina {

ModelFile ModelFile::open(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return HfFolder::open(path);
  return GgufFile::open(path);
}

const std::string& ModelFile::path() const { return gguf() ? gguf()->path() : folder()->path(); }

std::string ModelFile::architecture() const {
  return gguf() ? std::string(gguf()->string("general.architecture")) : folder()->model_type();
}

const TensorTable& ModelFile::tensors() const { return gguf() ? gguf()->tensors() : folder()->tensors(); }

void ModelFile::release_pages() const { gguf() ? gguf()->release_pages() : folder()->release_pages(); }

}  // namespace lamina
