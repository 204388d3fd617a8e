// SPDX-License-Identifier: Apache-2.0
// The few types that the whole KV store speaks in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lamina {

// A model layer and the storage slot that it reads are different numbers as soon as layers share storage: different
// types turn a mix-up into a compile error.
enum class LayerId : int {};
enum class SlotId : int {};
constexpr int index(LayerId layer) { return static_cast<int>(layer); }
constexpr int index(SlotId slot) { return static_cast<int>(slot); }

// What a token's text is, for policies that go by it: control tokens; ASCII punctuation, perhaps with white space;
// white space alone.
enum class TokenClass : std::uint8_t { kOther, kSpecial, kPunctuation, kBlank };
constexpr std::size_t kTokenClasses = 4;

using Pos = std::int32_t;  // position of a token in its sequence, never its row in the cache

// What the KV store knows of a model. Layers may differ in window only.
struct KvShape {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;            // of K and of V
  int query_group = 1;         // query heads that read one KV head
  std::vector<Pos> windows{};  // [layer] sliding window in tokens, the query's own included; 0 = none; may be empty
  std::string fingerprint{};   // of the model, for files made for one model only; empty: unknown, nothing is checked
  // Of a model that was trained to share rows between layers (LCKV, CLA, YOCO): what `full` means for it.
  std::vector<int> targets{};                   // [layer] the layer whose rows it reads; empty: each layer its own
  bool no_diagonal = false;                     // no layer sees a token's own row (LCKV's force_nodiag)
  int forward_passes = 7, backward_passes = 2;  // LCKV: how often the layers that read upwards run on a prompt

  Pos window(LayerId layer) const { return windows.empty() ? 0 : windows.at(static_cast<std::size_t>(index(layer))); }
};

}  // namespace lamina
