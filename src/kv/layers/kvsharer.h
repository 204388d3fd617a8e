// SPDX-License-Identifier: Apache-2.0
// KVSharer (arXiv:2410.18517): layers of an ordinary model read the K and V of an earlier, calibrated layer. The search
// (engine/kvsharer_search.h) runs offline and writes a strategy file:
//
//   {"schema": "lamina.kvsharer/1", "model": {"layers": 4, "shapes_sha256": "…"}, "map": [0, 1, 0, 3], …}
//   {"2": 0}      the published form: replaced layer -> its source
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kv/layers/kvsharer_choice.h"
#include "kv/layers/kvsharer_ranking.h"
#include "kv/layers/strategy_file.h"
#include "kv/types.h"

namespace lamina {

struct KvSharerStrategy {
  std::vector<int> target;  // [layer] the layer whose rows it reads
  std::string sha256;       // of the file's content, 64 hex digits
};

// Error naming file and field when the file is not a strategy or is one for another model.
KvSharerStrategy load_kvsharer(const std::string& file, const KvShape& shape);

// The same for the text of a file; `file` is its name in errors.
std::vector<int> parse_kvsharer(std::string_view text, const std::string& file, const KvShape& shape);

enum class KvSharerObjective { kCosine, kKl, kBeam };

struct KvSharerOptions {
  int share = 0;  // layers to be replaced
  RankingOptions ranking{};
  KvSharerObjective objective = KvSharerObjective::kCosine;
  double threshold = 0.5;  // kCosine: accepted above it
  int candidates = 24;     // kKl, kBeam: pairs tried at a time
  int width = 2;           // kBeam: maps that are kept at a time
  int kl_sentences = 8;    // kKl, kBeam: how many of the calibration's sentences the KL is taken on
  std::string kv{};        // the spec of the other axes; empty: dense float32
};

// A search as its file tells it.
struct KvSharerSearch {
  std::string architecture;
  Calibration calibration;
  KvSharerOptions options;
  std::vector<LayerPair> ranking;
  MapChoice choice;
  double cosine = 1;  // of the final map
  double seconds = 0;

  // The ranking ended before as many layers were shared as was asked for.
  bool exhausted() const { return choice.shared() < options.share; }
};

// The strategy file of a search on a model of this shape.
std::string print_kvsharer(const KvSharerSearch& search, const KvShape& shape);

}  // namespace lamina
