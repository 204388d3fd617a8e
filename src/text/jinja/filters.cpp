// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/filters.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

Value call_filter(Env& env, const std::string& name, const Value& input, const Args& args) {
  const Filter* filter = find_text_filter(name);
  if (!filter) filter = find_sequence_filter(name);
  if (!filter) filter = find_ordering_filter(name);
  if (!filter) filter = find_number_filter(name);
  require(filter != nullptr, "unsupported filter \"{}\"", name);
  if (filter->cost == FilterCost::Deep) {
    env.spend_deep(input);
    for (const Value& argument : args.positional) env.spend_on_search(input, argument);
  }
  env.spend(1);
  Value out = filter->function(env, input, args);
  env.spend_on(out);
  return out;
}

Value get_path(const Value& value, const Value& path) {
  if (!path.is_string()) return get_item(value, path);
  Value out = value;
  const std::string dot = ".";
  for (const std::string& part : split_left(path.as_string(), &dot, -1)) {
    const bool number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    out = get_item(out, number ? Value(*parse_int(part, 10)) : Value(part));
  }
  return out;
}

}  // namespace lamina::jinja
