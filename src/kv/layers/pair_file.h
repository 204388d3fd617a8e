// SPDX-License-Identifier: Apache-2.0
// The pairs of layers that `lamina search minicache` found most alike, best first:
//   {"schema": "lamina.minicache/1", "model": {"layers": 4, "shapes_sha256": "…"}, "pairs": [[2, 3], [0, 1]], …}
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/layers/strategy_file.h"
#include "kv/types.h"

namespace lamina {

struct PairFile {
  std::vector<std::pair<int, int>> pairs;  // (lower layer, deeper layer), no layer twice
  std::string sha256;                      // of the file's content, 64 hex digits
};

// Error naming file and field when the file is none of this kind or was made for another model.
PairFile load_pairs(const std::string& file, const KvShape& shape);
std::vector<std::pair<int, int>> parse_pairs(std::string_view text, const std::string& file, const KvShape& shape);

struct PairOptions {
  bool keys = true, values = true;  // the tensors that count
  bool by_head = false;             // the mean of the KV heads' angles in the place of one over all heads
  bool across_kinds = false;        // pairs of layers with different windows as well
};

struct PairDistance {
  int lower = 0, deeper = 0;
  double distance = 0;  // the angle between the layers' rows over pi: mean over tokens, and over K and V if both count
};

// A search as its file tells it.
struct PairSearch {
  std::string architecture;
  Calibration calibration;
  PairOptions options;
  std::vector<PairDistance> ranking;
  std::vector<std::pair<int, int>> pairs;
};

// The file of a search on a model of this shape.
std::string print_pairs(const PairSearch& search, const KvShape& shape);

}  // namespace lamina
