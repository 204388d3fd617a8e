// SPDX-License-Identifier: Apache-2.0
#include "model/json_field.h"

#include <utility>

namespace lamina {

std::optional<std::int64_t> integer_below(const nlohmann::json& value, std::int64_t below) {
  // What is beyond int64 is unsigned or a float.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() >= static_cast<std::uint64_t>(below))
    return std::nullopt;
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() >= below)
    return std::nullopt;
  return value.get<std::int64_t>();
}

JsonField JsonField::get(const std::string& key) const {
  static const nlohmann::json kNull;
  if (!value_->is_object() && !value_->is_null()) refuse("an object");
  const auto found = value_->is_object() ? value_->find(key) : value_->end();
  return {file_, path_.empty() ? key : fmt::format("{}.{}", path_, key),
          value_->is_object() && found != value_->end() ? *found : kNull};
}

std::vector<JsonField> JsonField::items() const {
  if (!value_->is_array()) refuse("an array");
  std::vector<JsonField> items;
  items.reserve(value_->size());
  for (const nlohmann::json& item : *value_)
    items.push_back(JsonField(file_, fmt::format("{}[{}]", path_, items.size()), item));
  return items;
}

std::string_view JsonField::string() const {
  if (!value_->is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonField::boolean(bool otherwise) const {
  if (value_->is_null()) return otherwise;
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

std::int64_t JsonField::integer(std::int64_t below) const {
  const auto found = integer_below(*value_, below);
  if (!found) refuse(fmt::format("an integer from 0 to {}", below - 1));
  return *found;
}

void JsonField::refuse(std::string_view expected) const {
  const std::string_view field = path_.empty() ? "the file" : std::string_view(path_);
  const std::string found = value_->is_null() ? "missing or null" : shown(*value_);
  fail("{}: {} is {}, expected {}", file_, field, found, expected);
}

}  // namespace lamina
