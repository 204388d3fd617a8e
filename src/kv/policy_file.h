// SPDX-License-Identifier: Apache-2.0
// A policy file: a spec that `lamina tune` chose for one model, with what it measured. Wherever a spec is expected, the
// file's name ending in ".json" stands for the spec that it holds.
//   {"schema": "lamina.policy/1", "model": {"layers": 30, "shapes_sha256": "…"}, "kv_spec": "k8v8", …}
#pragma once
#include <string>
#include <string_view>

#include "kv/types.h"

namespace lamina {

constexpr std::string_view kPolicySchema = "lamina.policy/1";

// No spec ends so: a file within a term is followed by its bracket. A name with control characters is none: it could
// not be shown.
bool names_policy(std::string_view spec);
// The file's spec. Error naming file and field when the file is no policy or was made for another model.
std::string load_policy(const std::string& file, const KvShape& shape);
// The same for the text of a file; `file` is its name in errors.
std::string parse_policy(std::string_view text, const std::string& file, const KvShape& shape);

}  // namespace lamina
