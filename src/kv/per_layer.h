// SPDX-License-Identifier: Apache-2.0
// Terms that say something else of each layer: bits(0-3=f16,4-29=k4v4), tokens(0-1=full,2-29=snapkv(keep=256)).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kv/spec_parser.h"

namespace lamina {

// [layer] what the term says of it; empty where it says nothing. Error for a range that is none, that the model does
// not have, or that names a layer again.
std::vector<std::string> parse_per_layer(const Term& term, int layers);

// The term again, without layers whose value is empty.
std::string print_per_layer(std::string_view name, const std::vector<std::string>& values);

}  // namespace lamina
