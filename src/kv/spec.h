// SPDX-License-Identifier: Apache-2.0
// KvSpec: what the three axes are, "layers + tokens + bits", as one string that is the same on the command line, in
// a report row and in a cache key.
//
//   full                                        the dense f16 cache (the default)
//   k8v8                                        bits
//   map(0_0_2_2) + window(sinks=4,window=512)   layers + tokens
//   kvsharer(map=strategy.json) + streaming(sinks=4,window=1020) + k8v4 + grid(512)
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "kv/bits/format.h"
#include "kv/layers/layer_map.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

struct KvSpec {
  LayerMap layers;
  std::shared_ptr<const TokenPolicy> tokens;  // null: every row lives on
  Format k = Format::kF16, v = Format::kF16;
  int grid = 0;  // commits inside a prompt at multiples of this many tokens; 0: at prompt end only

  // Error for a text that does not parse or does not fit the model, in one sentence.
  static KvSpec parse(std::string_view text, const KvShape& shape);

  // Canonical: layers + tokens + bits + grid, defaults omitted; parse(text()) gives the same text.
  const std::string& text() const { return text_; }
  // As text(), with files replaced by the hash of their content: for fingerprints and cache keys.
  const std::string& key() const { return key_; }
  // Nothing is ever dropped or rounded: any truncation is possible.
  bool lossless_store() const { return !tokens && !has_scales(k) && !has_scales(v); }

 private:
  std::string text_, key_;
};

// llama.cpp's -ctk/-ctv names (f16, f32, bf16, q8_0, q4_0) as a bits term, "k8v4".
std::string bits_from_cache_types(std::string_view k, std::string_view v);

}  // namespace lamina
