// SPDX-License-Identifier: Apache-2.0
#include "kv/policy_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "kv/layers/strategy_file.h"

namespace lamina {
namespace {

constexpr std::size_t kMostBytes = 16U << 20;

}  // namespace

bool names_policy(std::string_view spec) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  return spec.ends_with(".json") && std::ranges::none_of(spec, is_control);
}

std::string load_policy(const std::string& file, const KvShape& shape) {
  return parse_policy(read_text(file, kMostBytes, "a policy file of "), file, shape);
}

std::string parse_policy(std::string_view text, const std::string& file, const KvShape& shape) {
  const nlohmann::json root = parse_json(text, file);
  require_strategy(root, kPolicySchema, file, shape);
  require(root.contains("model"), "{}: the field model is missing, expected the model that the policy is for", file);
  const auto spec = root.find("kv_spec");
  require(spec != root.end() && spec->is_string(), "{}: kv_spec is {}, expected a string", file,
          spec == root.end() ? "missing" : shown(*spec));
  const auto& value = spec->get_ref<const std::string&>();
  require(!names_policy(value), "{}: kv_spec is {}, expected a spec, not another file", file, shown(*spec));
  return value;
}

}  // namespace lamina
