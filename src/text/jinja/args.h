// SPDX-License-Identifier: Apache-2.0
// Arguments bound to the names of parameters.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace lamina::jinja {

class Parameters {
 public:
  // Throws Error for too many arguments, an unknown name, or one given twice.
  Parameters(std::string_view function, const Args& args, std::initializer_list<std::string_view> names);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  const Value& at(std::size_t i) const;  // throws Error when the argument is missing
  Value value_or(std::size_t i, const Value& otherwise) const { return has(i) ? *values_[i] : otherwise; }
  std::int64_t int_or(std::size_t i, std::int64_t otherwise) const;
  bool bool_or(std::size_t i, bool otherwise) const;
  const std::string& string_at(std::size_t i) const;
  const std::string* string_or_none(std::size_t i) const;  // nullptr: missing or None

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace lamina::jinja
