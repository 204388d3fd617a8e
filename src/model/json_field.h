// SPDX-License-Identifier: Apache-2.0
// A value of a JSON file that knows where it stands, so that an error can name file and field.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace lamina {

// The value if it is an integer with 0 <= value < below.
std::optional<std::int64_t> integer_below(const nlohmann::json& value, std::int64_t below);

class JsonField {
 public:
  JsonField(std::string file, const nlohmann::json& value) : file_(std::move(file)), value_(&value) {}

  const std::string& file() const { return file_; }
  const nlohmann::json& json() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  // The member of an object; null where there is none. Error if this is neither an object nor null.
  JsonField get(const std::string& key) const;
  std::vector<JsonField> items() const;  // of an array
  // Of null the value given, where one is given.
  std::string_view string() const;
  bool boolean(bool otherwise) const;
  std::int64_t integer(std::int64_t below) const;  // 0 <= value < below
  std::string_view type() const { return get("type").string(); }

  [[noreturn]] void refuse(std::string_view expected) const;

 private:
  JsonField(std::string file, std::string path, const nlohmann::json& value)
      : file_(std::move(file)), path_(std::move(path)), value_(&value) {}

  std::string file_, path_;  // "tokenizer.json", "model.vocab"
  const nlohmann::json* value_;
};

}  // namespace lamina
