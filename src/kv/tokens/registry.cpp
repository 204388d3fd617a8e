// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/registry.h"

#include "kv/tokens/expected.h"
#include "kv/tokens/fastgen.h"
#include "kv/tokens/h2o.h"
#include "kv/tokens/keydiff.h"
#include "kv/tokens/keyl2.h"
#include "kv/tokens/kvzip.h"
#include "kv/tokens/pyramidinfer.h"
#include "kv/tokens/random.h"
#include "kv/tokens/snapkv.h"
#include "kv/tokens/streaming.h"

namespace lamina {
namespace {

using Policy = std::shared_ptr<const TokenPolicy>;

struct Method {
  std::string_view name;
  Policy (*make)(const Term& term);
};

template <class T>
Policy make(const Term& term) {
  return std::make_shared<const T>(term);
}

constexpr Method kMethods[] = {
    {"fastgen", make<FastGenPolicy>},     {"h2o", make<H2oPolicy>},          {"snapkv", make<SnapKvPolicy>},
    {"pyramidkv", make<SnapKvPolicy>},    {"adakv", make<SnapKvPolicy>},     {"pyramidinfer", make<PyramidInferPolicy>},
    {"expected", make<ExpectedPolicy>},   {"kvzip", make<KvzipPolicy>},      {"keyl2", make<KeyL2Policy>},
    {"streaming", make<StreamingPolicy>}, {"window", make<StreamingPolicy>}, {"random", make<RandomPolicy>},
    {"keydiff", make<KeyDiffPolicy>},
};

}  // namespace

Policy make_token_policy(const Term& term) {
  for (const Method& method : kMethods) {
    if (method.name == term.name) return method.make(term);
  }
  return nullptr;
}

std::vector<std::string_view> token_policy_names() {
  std::vector<std::string_view> names;
  for (const Method& method : kMethods) names.push_back(method.name);
  return names;
}

}  // namespace lamina
