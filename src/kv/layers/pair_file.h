// SPDX-License-Identifier: Apache-2.0
// The pairs of layers that `lamina search minicache` found most alike, best first:
//   {"schema": "lamina.minicache/1", "model": {"layers": 4, "shapes_sha256": "…"}, "pairs": [[2, 3], [0, 1]], …}
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/types.h"

namespace lamina {

struct PairFile {
  std::vector<std::pair<int, int>> pairs;  // (lower layer, deeper layer), no layer twice
  std::string sha256;                      // of the file's content, 64 hex digits
};

// Error naming file and field when the file is none of this kind or was made for another model.
PairFile load_pairs(const std::string& file, const KvShape& shape);
std::vector<std::pair<int, int>> parse_pairs(std::string_view text, const std::string& file, const KvShape& shape);

}  // namespace lamina
