// SPDX-License-Identifier: Apache-2.0
// Jinja's filters. tojson is the one of chat templates: json.dumps without HTML escapes.
#pragma once
#include <string>

#include "text/jinja/value.h"

namespace lamina::jinja {

// Throws Error for a filter that does not exist.
Value call_filter(Env& env, const std::string& name, const Value& input, const Args& args);

using FilterFunction = Value (*)(Env& env, const Value& input, const Args& args);
// Deep filters look at everything inside their input, the others at its elements alone: they cost accordingly.
enum class FilterCost { Shallow, Deep };
struct Filter {
  FilterFunction function;
  FilterCost cost = FilterCost::Shallow;
};
// Each returns nullptr when it does not have the filter.
const Filter* find_text_filter(const std::string& name);
const Filter* find_number_filter(const std::string& name);
const Filter* find_sequence_filter(const std::string& name);
const Filter* find_ordering_filter(const std::string& name);

// The value at a dotted path such as "function.name" or "0.text".
Value get_path(const Value& value, const Value& path);

}  // namespace lamina::jinja
