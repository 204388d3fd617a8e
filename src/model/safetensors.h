// SPDX-License-Identifier: Apache-2.0
// The safetensors format of Hugging Face: 8 bytes with the length of a JSON header, the header, the data. Everything in
// the file is untrusted, as in GGUF. Source: the description in huggingface/safetensors.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "model/tensor.h"

namespace lamina {

// The tensors of one file, in the order of their data. `file` is the name for messages; the views point into `bytes`.
// Error for anything out of range, for tensors that overlap or leave gaps, and for types other than F32, F16, BF16.
std::vector<TensorView> read_safetensors(std::string_view file, std::span<const std::byte> bytes);

}  // namespace lamina
