// SPDX-License-Identifier: Apache-2.0
// The bytes of one GGUF file, checked and taken apart; gguf.cpp joins the parts of a model and answers look-ups.
#pragma once
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "model/gguf.h"

namespace lamina {

struct GgufPart {
  GgufMetadata metadata;
  std::vector<TensorView> tensors;  // names may repeat
};

// `file` is the name for messages. The views in the result point into `bytes`.
GgufPart read_gguf(std::string_view file, std::span<const std::byte> bytes);

// Calls `visit` with each element, decoded.
void for_each_element(const GgufArray& array, const std::function<void(const GgufValue&)>& visit);

}  // namespace lamina
