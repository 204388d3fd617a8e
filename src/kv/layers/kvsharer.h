// SPDX-License-Identifier: Apache-2.0
// KVSharer (arXiv:2410.18517): layers of an ordinary model read the K and V of an earlier, calibrated layer. The search
// runs offline and writes a strategy file; here it is only read.
//
//   {"schema": "lamina.kvsharer/1", "model": {"layers": 4, "shapes_sha256": "…"}, "map": [0, 1, 0, 3], …}
//   {"2": 0}      the published form: replaced layer -> its source
#pragma once
#include <string>
#include <string_view>
#include <vector>

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

}  // namespace lamina
