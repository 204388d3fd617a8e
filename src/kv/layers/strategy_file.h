// SPDX-License-Identifier: Apache-2.0
// What the JSON files that searches write for this axis have in common. All Errors name the file and the field.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "kv/types.h"

namespace lamina {

std::string read_strategy(const std::string& file);  // its content
// Error unless root's "schema" is this one and its "model", where it has one, is this model.
void require_strategy(const nlohmann::json& root, std::string_view schema, const std::string& file,
                      const KvShape& shape);
int layer_number(const nlohmann::json& value, int layers, const std::string& file, std::string_view field);

}  // namespace lamina
