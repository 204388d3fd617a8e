// SPDX-License-Identifier: Apache-2.0
// MiniCache (arXiv:2405.14366): two layers keep one direction for each token, and a magnitude each; rows whose
// directions are too far apart stay apart. Here is the arithmetic; the store does it at commit (kv/slot.h).
//
//   minicache(start=0.5,t=0.6,keep=0.05)     the paper's defaults
//   start=0.5           the share of the layers below the first pair; start=16 (no point): its number. From there up,
//                       layer l pairs with l + 1 if they are of one kind, else l is left as it is
//   kinds=any           also pairs of a layer with a window and one without, or with another (same: none)
//   pairs=auto,map=FILE pairs measured by `lamina search minicache`, as many as `start` gives neighbours
//   t=0.6               how far the common direction lies from the lower layer's to the deeper one's
//   keep=0.05           gamma, or for rule=top the share of rows, of what follows
//   rule=distance       kept apart: d > d_max - keep (d_max - d_min), d = angle / pi ("B"; the printed rule repaired)
//        top            the ceil(keep n) largest d ("D")
//        cosine         cos < cos_min + keep (cos_max - cos_min) ("C")
//        literal        d < d_min + keep (d_max - d_min), as printed: keeps the most similar rows ("A")
//   vector=token        one direction and one magnitude over all KV heads; head: one for each head, and the mean of
//                       the heads' angles decides what is kept apart
//   of=kv               which tensors are merged: kv, k or v
//   index=own           keys and values decide by themselves which rows are kept apart; union: both are if one is;
//                       k: the keys decide for both
//   merge=slerp         mean: the plain average of the rows, without magnitudes; maxnorm: the direction of slerp with
//                       the larger of the two magnitudes for both layers
//
// Directions are not made unit again after they are rounded to f16 or codes: a magnitude drifts as its row's codes do.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kv/types.h"

namespace lamina {

struct Term;

struct MiniCache {
  enum class Rule : std::uint8_t { kDistance, kTop, kCosine, kLiteral };
  enum class Index : std::uint8_t { kOwn, kUnion, kKeys };
  enum class Merge : std::uint8_t { kSlerp, kMean, kMaxNorm };

  double t = 0.6, keep = 0.05;
  Rule rule = Rule::kDistance;
  bool by_head = false;             // vector=head
  bool keys = true, values = true;  // of=
  Index index = Index::kOwn;
  Merge merge = Merge::kSlerp;
  std::vector<std::pair<int, int>> pairs{};  // (lower layer, deeper layer)

  // f16 gains a row and tensor that is merged.
  int gains(int kv_heads) const { return merge != Merge::kSlerp ? 0 : by_head ? 2 * kv_heads : 2; }
};

// The angle between two rows over pi, in [0, 1]; 0 where one of them is zero.
double angular_distance(std::span<const float> lower, std::span<const float> deeper);

// What two rows become (Eq. 3, and the degenerate cases that the paper leaves open). `merged` receives what is stored;
// layer i then reads gain[i] * merged. Not called for rows that are kept apart.
struct Gains {
  float lower = 1, deeper = 1;
};
Gains merge_rows(MiniCache::Merge merge, double t, std::span<const float> lower, std::span<const float> deeper,
                 std::span<float> merged);

// Which rows of one tensor of one pair are kept apart: decided for all rows of a prompt together, by thresholds that
// stay for the tokens decoded after it (1.6 of the specification).
class Retention {
 public:
  // d: the distances of a prompt's rows. Later prompts of a sequence widen what d_min and d_max have seen.
  std::vector<bool> prompt(const MiniCache& config, std::span<const double> d);
  bool decoded(const MiniCache& config, double d) const;  // false before the first prompt

 private:
  void set_cut(const MiniCache& config);

  bool seen_ = false;
  double least_ = 0, most_ = 0;  // d_min, d_max
  double cut_ = 0;               // of the rule, in its own quantity
};

// The pairs of neighbours from layer `start` up.
std::vector<std::pair<int, int>> neighbour_pairs(const KvShape& shape, int start, bool across_kinds);

// From the term minicache(…), which prints as `text` and, with files replaced by their hash, as `key`.
struct MiniCacheTerm {
  MiniCache config;
  std::string text, key;
};
MiniCacheTerm parse_minicache(const Term& term, const KvShape& shape);

}  // namespace lamina
