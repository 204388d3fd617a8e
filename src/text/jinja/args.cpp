// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/args.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/operators.h"

namespace lamina::jinja {

Parameters::Parameters(std::string_view function, const Args& args, std::initializer_list<std::string_view> names)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  require(args.positional.size() <= names.size(), "{}() takes at most {} arguments, {} given", function, names.size(),
          args.positional.size());
  for (std::size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    require(found != names_.end(), "{}() got an unexpected keyword argument '{}'", function, name);
    const Value*& slot = values_[static_cast<std::size_t>(found - names_.begin())];
    require(slot == nullptr, "{}() got multiple values for argument '{}'", function, name);
    slot = &value;
  }
}

const Value& Parameters::at(std::size_t i) const {
  require(has(i), "{}() misses its argument '{}'", function_, names_[i]);
  return *values_[i];
}

std::int64_t Parameters::int_or(std::size_t i, std::int64_t otherwise) const {
  if (!has(i)) return otherwise;
  if (at(i).is_undefined()) fail("{}", *at(i).undefined()->reason);
  require(at(i).is_integral(), "'{}' object cannot be interpreted as an integer", type_name(at(i)));
  return at(i).as_int();
}

bool Parameters::bool_or(std::size_t i, bool otherwise) const { return has(i) ? truthy(at(i)) : otherwise; }

const std::string& Parameters::string_at(std::size_t i) const {
  if (at(i).is_undefined()) fail("{}", *at(i).undefined()->reason);
  require(at(i).is_string(), "{}() argument '{}' must be str, not {}", function_, names_[i], type_name(at(i)));
  return at(i).as_string();
}

const std::string* Parameters::string_or_none(std::size_t i) const {
  return has(i) && !at(i).is_none() ? &string_at(i) : nullptr;
}

}  // namespace lamina::jinja
