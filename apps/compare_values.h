// SPDX-License-Identifier: Apache-2.0
// Values of a line of results, which anybody may have edited: what is not as the page needs it is an Error that names
// the measurement, the field, what was found and what was expected.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/results_file.h"

namespace lamina {

using Grid = std::vector<std::vector<double>>;  // [row][column]

class Values {
 public:
  explicit Values(const Result& result);

  bool has(const char* name) const;  // and it is not null
  double number(const char* name) const;
  std::string text(const char* name) const;
  std::vector<double> numbers(const char* name) const;
  std::vector<std::string> texts(const char* name) const;
  std::vector<std::pair<double, double>> pairs(const char* name) const;
  Grid grid(const char* name) const;  // at least a row and a column, rows as long as each other
  std::vector<Values> objects(const char* name) const;

  // For what depends on more than one field.
  void require_that(bool ok, const char* name, std::string_view expected) const;

 private:
  Values(const nlohmann::ordered_json& object, std::string where) : object_(&object), where_(std::move(where)) {}
  template <class T>
  T get(const char* name, std::string_view expected) const;

  const nlohmann::ordered_json* object_;
  std::string where_;  // "model.layers of full"
};

}  // namespace lamina
