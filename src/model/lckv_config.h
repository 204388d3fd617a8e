// SPDX-License-Identifier: Apache-2.0
// config.json of a converted model.
#pragma once
#include <nlohmann/json.hpp>

#include "model/convert.h"

namespace lamina {

// What the source says of itself in Hugging Face's names, as transformers 4 spells them (LCKV's code is written for
// 4.45), and LCKV's own fields. Error for a rope that these names cannot express.
nlohmann::json lckv_config(const ModelFile& source, const ModelConfig& config, const LckvMap& map, TensorType type,
                           bool own_head);

}  // namespace lamina
