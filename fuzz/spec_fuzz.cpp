// SPDX-License-Identifier: Apache-2.0
// Spec strings and, for texts that begin with "{", strategy, pair and policy files: an Error or a value, and what
// parses prints as a text that parses to the same.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "kv/layers/kvsharer.h"
#include "kv/layers/pair_file.h"
#include "kv/policy_file.h"
#include "kv/spec.h"

namespace {

const lamina::KvShape kShape = {
    .layers = 4, .kv_heads = 2, .head_dim = 48, .windows = {0, 16, 0, 16}, .fingerprint = "ab"};

void check(bool ok) {
  if (!ok) std::abort();
}

void check_spec(std::string_view text) {
  const lamina::KvSpec spec = lamina::KvSpec::parse(text, kShape, lamina::UpwardMaps::kAny);
  lamina::KvSpec again;
  try {
    again = lamina::KvSpec::parse(spec.text(), kShape, lamina::UpwardMaps::kAny);
  } catch (const lamina::Error&) {
    std::abort();
  }
  check(again.text() == spec.text() && again.key() == spec.key() && again.layers == spec.layers);
  check(again.grid == spec.grid && again.rotate == spec.rotate && again.slots.size() == spec.slots.size());
  for (std::size_t i = 0; i < spec.slots.size(); ++i) {
    check(again.slots[i].k == spec.slots[i].k && again.slots[i].v == spec.slots[i].v);
    check((again.slots[i].tokens == nullptr) == (spec.slots[i].tokens == nullptr));
  }
  check(again.minicache.pairs == spec.minicache.pairs && again.minicache.t == spec.minicache.t);
  check(again.minicache.keep == spec.minicache.keep);
}

void check_strategy(std::string_view text) {
  const std::vector<int> target = lamina::parse_kvsharer(text, "fuzz", kShape);
  check(target.size() == 4);
  for (int layer = 0; layer < 4; ++layer) {
    const int source = target[static_cast<std::size_t>(layer)];
    check(source >= 0 && source <= layer && target[static_cast<std::size_t>(source)] == source);
  }
}

void check_pairs(std::string_view text) {
  std::vector<bool> taken(4);
  for (const auto& [lower, deeper] : lamina::parse_pairs(text, "fuzz", kShape)) {
    check(0 <= lower && lower < deeper && deeper < 4);
    for (const int layer : {lower, deeper}) {
      check(!taken[static_cast<std::size_t>(layer)]);
      taken[static_cast<std::size_t>(layer)] = true;
    }
  }
}

void check_policy(std::string_view text) { check_spec(lamina::parse_policy(text, "fuzz", kShape)); }

void check_text(void (*parse)(std::string_view), std::string_view text) {
  try {
    parse(text);
  } catch (const lamina::Error& error) {
    check(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!text.starts_with('{')) {
    check_text(check_spec, text);
  } else {
    check_text(check_strategy, text);
    check_text(check_pairs, text);
    check_text(check_policy, text);
  }
  return 0;
}
