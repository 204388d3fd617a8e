// SPDX-License-Identifier: Apache-2.0
#include "compare_values.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace lamina {

using Json = nlohmann::ordered_json;

Values::Values(const Result& result)
    : Values(result.values, fmt::format("{} of {}", result.measurement, result.kv_spec)) {}

bool Values::has(const char* name) const { return object_->contains(name) && !object_->at(name).is_null(); }

void Values::require_that(bool ok, const char* name, std::string_view expected) const {
  if (ok) return;
  const std::string found = object_->contains(name) ? "is " + shown(nlohmann::json(object_->at(name))) : "is missing";
  fail("{}: \"{}\" {}, expected {}", where_, name, found, expected);
}

template <class T>
T Values::get(const char* name, std::string_view expected) const {
  try {
    return object_->at(name).get<T>();
  } catch (const Json::exception&) {  // missing, or of another type
    require_that(false, name, expected);
    throw;
  }
}

double Values::number(const char* name) const {
  require_that(object_->contains(name) && object_->at(name).is_number(), name, "a number");
  return object_->at(name).get<double>();
}

std::string Values::text(const char* name) const { return get<std::string>(name, "a text"); }

std::vector<double> Values::numbers(const char* name) const { return get<std::vector<double>>(name, "numbers"); }

std::vector<std::string> Values::texts(const char* name) const { return get<std::vector<std::string>>(name, "texts"); }

std::vector<std::pair<double, double>> Values::pairs(const char* name) const {
  return get<std::vector<std::pair<double, double>>>(name, "pairs of numbers");
}

Grid Values::grid(const char* name) const {
  constexpr std::string_view kExpected = "rows of numbers, all as long";
  Grid grid = get<Grid>(name, kExpected);
  const bool is_one = !grid.empty() && !grid.front().empty() &&
                      std::ranges::all_of(grid, [&](const auto& row) { return row.size() == grid.front().size(); });
  require_that(is_one, name, kExpected);
  return grid;
}

std::vector<Values> Values::objects(const char* name) const {
  const auto found = object_->find(name);
  const bool are_objects = found != object_->end() && found->is_array() &&
                           std::ranges::all_of(*found, [](const Json& item) { return item.is_object(); });
  require_that(are_objects, name, "an array of objects");
  std::vector<Values> items;
  for (std::size_t i = 0; i < found->size(); ++i)
    items.push_back(Values((*found)[i], fmt::format("{}: {}[{}]", where_, name, i)));
  return items;
}

}  // namespace lamina
