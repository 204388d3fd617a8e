// SPDX-License-Identifier: Apache-2.0
// What lamina tune says: a table of alternatives and strips of sensitivity, JSON, and the policy file.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "engine/tune.h"

namespace lamina {

// What was asked, for reports.
struct TuneQuestion {
  std::string model, architecture;
  KvShape shape;
  std::string file, sha256;  // the calibration text
  TuneOptions options;
  TuneSizes sizes;  // with as many windows as the text has
};

nlohmann::ordered_json tune_json(const TuneQuestion& question, const TuneResult& result);
std::string policy_text(const TuneQuestion& question, const TuneResult& result);
std::string tune_text(const TuneQuestion& question, const TuneResult& result, bool colours);

}  // namespace lamina
