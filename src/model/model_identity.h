// SPDX-License-Identifier: Apache-2.0
// Which model a file is: for results and logits that are to be compared with those of the same one only.
#pragma once
#include <string>

#include "model/model_file.h"

namespace lamina {

// Hex SHA-256 of the tensors' names, types and shapes and of the first, middle and last 4 KiB of each. Another
// architecture, quantisation or fine-tune has another; a file under another path, or split otherwise, has not.
std::string model_identity(const ModelFile& file);

}  // namespace lamina
