// SPDX-License-Identifier: Apache-2.0
// Goldens of tools/golden_chat.py: what Python's jinja2 gave for a template, text or an error.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "base/error.h"

namespace lamina {

inline std::string read_golden(const std::string& name) {
  std::ifstream file(LAMINA_TESTS "/golden/chat/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Errors whose words are the template's own or Jinja's must be the same; of Python's other errors only that there is
// one. Ours begin with the line.
inline void expect_golden(const nlohmann::ordered_json& golden, const std::function<std::string()>& render) {
  std::string text, error;
  try {
    text = render();
  } catch (const Error& e) {
    error = e.what();
  }
  if (golden.contains("out")) {
    EXPECT_EQ(error, "");
    EXPECT_EQ(text, golden["out"]);
    return;
  }
  ASSERT_NE(error, "") << "rendered \"" << text << "\", expected " << golden["error"] << ": " << golden["message"];
  EXPECT_TRUE(error.starts_with("chat template, line ")) << error;
  const std::set<std::string> same_words = {"TemplateError", "UndefinedError"};
  if (same_words.count(golden["error"])) {
    EXPECT_EQ(error.substr(error.find(": ") + 2), golden["message"]);
  }
}

}  // namespace lamina
