// SPDX-License-Identifier: Apache-2.0
// KvSpec: what the three axes are, "layers + tokens + bits", as one string that is the same on the command line, in
// a report row and in a cache key.
//
//   full                                        the dense f16 cache (the default)
//   k8v8                                        bits
//   k4v4 + rotate                               bits
//   map(0_0_2_2) + window(window=512)           layers + tokens
//   kvsharer(map=strategy.json) + streaming(window=1020) + k8v4 + grid(512)
//
//   layers  map(0_0_2_2) kvsharer(map=FILE) lckv(w=2) …, see kv/layers/registry.h
//   tokens  streaming(…) window(…) h2o(…), see the files of kv/tokens/
//   bits    f32 f16 bf16, and kXvY with X and Y of 16, 8, 4 (not k16v16: that is f16); k4v2 k2v2, the 2 bits with a
//           minimum beside the scale; kivi4(…) kivi2(…), see kv/bits/kivi.h
//           bits(0-3=f16,4-29=k4v4) and tokens(0-1=full,2-29=snapkv(keep=256)): by the layer that writes
//   rotate  with bits: rows are rotated before they are encoded, see kv/bits/hadamard.h
//   FILE.json   alone: the spec of a policy file of `lamina tune`, see kv/policy_file.h
//   grid(N) commits inside a prompt at multiples of N tokens from the start of the sequence
//
// Terms come in any order, at most one for an axis. They are printed as layers + tokens + bits + rotate + grid with
// defaults omitted, "full" for the three axes when nothing else is left.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kv/bits/format.h"
#include "kv/bits/kivi.h"
#include "kv/layers/layer_map.h"
#include "kv/layers/minicache.h"
#include "kv/layers/registry.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

// What two of the axes are for one slot.
struct SlotSpec {
  std::shared_ptr<const TokenPolicy> tokens;  // null: every row lives on
  Format k = Format::kF16, v = Format::kF16;
  Kivi kivi{};  // where these are its formats
};

// Of one layer one KV head.
struct OneHead {
  LayerId layer{};
  int head = 0;
};

struct KvSpec {
  LayerMap layers;
  std::vector<SlotSpec> slots;
  bool rotate = false;  // rows are stored rotated, those of the tail included
  MiniCache minicache;  // how pairs of layers are merged, where the map has any
  int grid = 0;         // commits inside a prompt at multiples of this many tokens; 0: at prompt end only
  // What is said of the layer holds for this head: of the others every row lives on, as it came in, and a map that has
  // the layer, which writes, read another one's rows has them read its own. No text says it, it is there to measure
  // what heads are worth (engine/tune_heads.h). The layer's rows must not be merged.
  std::optional<OneHead> only{};

  // Error for a text that does not parse or does not fit the model, in one sentence.
  static KvSpec parse(std::string_view text, const KvShape& shape, UpwardMaps upward = UpwardMaps::kTrainedOnly);

  // Canonical; parse(text()) gives the same text.
  const std::string& text() const { return text_; }
  // As text(), with files replaced by the hash of their content ("sha256:" and 16 hex digits): for fingerprints and
  // cache keys.
  const std::string& key() const { return key_; }
  // Why a sequence may not start from the cache of another one with the same first tokens; empty if it may.
  std::string why_no_prefix_reuse() const;
  // Whether the first prompt of a sequence is computed alike, to the bit, under both: rows are stored alike until it
  // ends, and the layers read them alike.
  bool same_prompt(const KvSpec& other) const;
  // The widest format in which a sequence of this spec stores rows: what a pool's blocks must hold a tile of.
  Format widest() const;
  const SlotSpec& operator[](SlotId slot) const { return slots.at(static_cast<std::size_t>(index(slot))); }
  // How many tokens of a prompt a probe repeats at a time (TokenPolicy::probes): the most of any slot.
  Pos probes() const;
  // Whether a slot's policy measures attention.
  bool observes() const;
  // Whether the policy drops rows of a prompt between layers: then it is the policy of all slots.
  bool prunes() const { return !slots.empty() && slots.front().tokens && slots.front().tokens->prunes(); }

 private:
  std::string text_, key_;
};

// llama.cpp's -ctk/-ctv names (f32, f16, bf16, q8_0, q4_0) as a bits term, "k8v4". f32 and bf16 go with themselves
// only.
std::string bits_from_cache_types(std::string_view k, std::string_view v);

}  // namespace lamina
