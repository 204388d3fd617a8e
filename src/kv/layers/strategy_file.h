// SPDX-License-Identifier: Apache-2.0
// What the JSON files that searches write for this axis have in common. All Errors name the file and the field.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "kv/types.h"

namespace lamina {

// The text that a search ran on.
struct Calibration {
  std::string file, sha256;
  int sentences = 0, tokens = 0;  // tokens of each
};

// What a file says of its model, for require_strategy.
nlohmann::ordered_json model_of_file(const std::string& architecture, const KvShape& shape);
// What a file begins with: its schema, the model and the text that were searched on. A search adds fields of its own.
nlohmann::ordered_json strategy_head(std::string_view schema, const std::string& architecture,
                                     const Calibration& calibration, const KvShape& shape);
// The text of a file: a field a line, and of a list of pairs or objects an entry a line, so that people can read
// thousands of them.
std::string print_strategy(const nlohmann::ordered_json& root);

std::string read_strategy(const std::string& file);  // its content
// Error unless root's "schema" is this one and its "model", where it has one, is this model.
void require_strategy(const nlohmann::json& root, std::string_view schema, const std::string& file,
                      const KvShape& shape);
int layer_number(const nlohmann::json& value, int layers, const std::string& file, std::string_view field);

}  // namespace lamina
