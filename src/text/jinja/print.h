// SPDX-License-Identifier: Apache-2.0
// How Python writes values: str(), repr() and json.dumps().
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace lamina::jinja {

std::string str(const Value& value);
std::string repr(const Value& value);
std::string repr(double number);

struct JsonStyle {
  std::optional<std::string> indent;  // what one level adds; empty: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ascii = false;
};
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace lamina::jinja
