// SPDX-License-Identifier: Apache-2.0
// Python's operators on template values. Errors carry Python's own words, so that they can be looked up.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace lamina::jinja {

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b, std::string_view shown_operator = "<");
bool contains(const Value& container, const Value& item);
bool compare(std::string_view op, const Value& a, const Value& b);  // == != < <= > >= in "not in"

Value arithmetic(std::string_view op, const Value& a, const Value& b);  // + - * / // % **
Value negate(const Value& value);
Value positive(const Value& value);

std::optional<std::size_t> length(const Value& value);  // empty: the value has no len()
bool iterable(const Value& value);
std::vector<Value> iterate(const Value& value);  // uses up an iterator; throws Error unless iterable

struct SliceBounds {
  std::optional<std::int64_t> start, stop, step;
};
Value slice(const Value& value, const SliceBounds& bounds);
Value get_item(const Value& value, const Value& key);                               // value[key]
Value get_attribute(const Value& value, const std::string& name);                   // value.name
std::string range_label(std::int64_t start, std::int64_t stop, std::int64_t step);  // as Python prints a range
std::string escape_html(std::string_view text);

}  // namespace lamina::jinja
