// SPDX-License-Identifier: Apache-2.0
// The token methods by name.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "kv/spec_parser.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

// Null when the term names no token method; Error for wrong arguments.
std::shared_ptr<const TokenPolicy> make_token_policy(const Term& term);

std::vector<std::string_view> token_policy_names();

}  // namespace lamina
