// SPDX-License-Identifier: Apache-2.0
// The golden files of tools/golden_tokenizer.py, and vocabularies to encode with.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace lamina {

inline nlohmann::json golden(const std::string& name) {
  const std::string path = std::string(LAMINA_TESTS) + "/golden/tokenizer/" + name + ".json";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return nlohmann::json::parse(file);
}

// GoogleTest names have no '-'.
inline std::string test_name(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// Owns what TokenizerData views.
struct TestVocabulary {
  std::vector<std::string> tokens, merges;
  TokenizerData data;

  // From a golden file that holds one; the caller sets data.model and data.pre.
  static TestVocabulary load(const nlohmann::json& json) {
    TestVocabulary v;
    v.tokens = json.at("tokens").get<std::vector<std::string>>();
    v.merges = json.value("merges", std::vector<std::string>{});
    v.data.scores = json.value("scores", std::vector<float>{});
    for (const int type : json.at("types")) v.data.types.push_back(static_cast<TokenType>(type));
    return v;
  }

  Tokenizer tokenizer() {
    data.source = "test";
    data.tokens.assign(tokens.begin(), tokens.end());
    data.merges.assign(merges.begin(), merges.end());
    return Tokenizer(data);
  }
};

}  // namespace lamina
