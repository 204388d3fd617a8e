// SPDX-License-Identifier: Apache-2.0
// Filters that take sequences apart and put them together.
#include <algorithm>
#include <functional>
#include <map>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/tests.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

Value length_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("length", args, {});
  const auto size = length(input);
  require(size.has_value(), "object of type '{}' has no len()", type_name(input));
  return *size;
}

Value default_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("default", args, {"default_value", "boolean"});
  const bool missing = input.is_undefined() || (p.bool_or(1, false) && !truthy(input));
  return missing ? p.value_or(0, Value("")) : input;
}

Value first(Env&, const Value& input, const Args& args) {
  const Parameters p("first", args, {});
  if (Iterator* iterator = input.iterator()) {
    const bool empty = iterator->next >= iterator->items.size();
    return empty ? Value::undefined("No first item, sequence was empty.") : iterator->items[iterator->next++];
  }
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Env&, const Value& input, const Args& args) {
  const Parameters p("last", args, {});
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  require(!input.iterator(), "'generator' object is not reversible");
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value list_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("list", args, {});
  return Value::list(iterate(input));
}

Value items_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("items", args, {});
  if (input.is_undefined()) return Value::iterator({});
  require(input.dict() != nullptr, "Can only get item pairs from a mapping.");
  std::vector<Value> out;
  for (const auto& [key, value] : input.dict()->entries()) out.push_back(Value::tuple({key, value}));
  return Value::iterator(std::move(out));
}

Value reverse(Env&, const Value& input, const Args& args) {
  const Parameters p("reverse", args, {});
  if (input.is_string()) return slice(input, {std::nullopt, std::nullopt, -1});
  std::vector<Value> items = iterate(input);
  std::reverse(items.begin(), items.end());
  return input.iterator() ? Value::list(std::move(items)) : Value::iterator(std::move(items));
}

Value batch(Env& env, const Value& input, const Args& args) {
  const Parameters p("batch", args, {"linecount", "fill_with"});
  const std::int64_t size = p.int_or(0, 0);
  require(p.has(0) && size > 0, "the batch filter needs a positive size");
  std::vector<Value> out;
  std::vector<Value> row;
  for (const Value& item : iterate(input)) {
    if (static_cast<std::int64_t>(row.size()) == size) out.push_back(Value::list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (p.has(1) && !p.at(1).is_none()) {
      env.spend(static_cast<std::uint64_t>(size));
      row.resize(static_cast<std::size_t>(size), p.at(1));
    }
    out.push_back(Value::list(std::move(row)));
  }
  return Value::iterator(std::move(out));
}

Args from(const Args& args, std::size_t first_positional) {
  Args out;
  out.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(first_positional), args.positional.end());
  out.named = args.named;
  return out;
}

// map('filter', ...) and map(attribute='a.b', default=...)
Value map_filter(Env& env, const Value& input, const Args& args) {
  std::vector<Value> out;
  if (!truthy(input)) return Value::iterator({});
  if (args.positional.empty()) {
    const Parameters p("map", args, {"attribute", "default"});
    for (const Value& item : iterate(input)) {
      Value found = get_path(item, p.at(0));
      out.push_back(found.is_undefined() && p.has(1) ? p.at(1) : found);
    }
    return Value::iterator(std::move(out));
  }
  require(args.positional[0].is_string(), "unsupported filter \"{}\"", str(args.positional[0]));
  const Args rest = from(args, 1);
  for (const Value& item : iterate(input)) {
    out.push_back(call_filter(env, args.positional[0].as_string(), item, rest));
  }
  return Value::iterator(std::move(out));
}

// select, reject, selectattr, rejectattr: keeps the items whose test gives `wanted`.
template <bool Wanted, bool ByAttribute>
Value choose(Env& env, const Value& input, const Args& args) {
  if (!truthy(input)) return Value::iterator({});
  constexpr std::size_t kTest = ByAttribute ? 1 : 0;
  require(args.positional.size() >= kTest, "Missing parameter for attribute name");
  const bool has_test = args.positional.size() > kTest;
  const Args rest = has_test ? from(args, kTest + 1) : Args{};
  std::vector<Value> out;
  for (const Value& item : iterate(input)) {
    const Value tested = ByAttribute ? get_path(item, args.positional[0]) : item;
    const bool passed = has_test ? call_test(env, str(args.positional[kTest]), tested, rest) : truthy(tested);
    env.spend(1);
    if (passed == Wanted) out.push_back(item);
  }
  return Value::iterator(std::move(out));
}

Value attr(Env&, const Value& input, const Args& args) {
  const Parameters p("attr", args, {"name"});
  if (input.dict()) return get_item(Value::tuple({}), Value(p.string_at(0)));  // a dict's keys are not attributes
  return get_attribute(input, p.string_at(0));
}

}  // namespace

const Filter* find_sequence_filter(const std::string& name) {
  static const std::map<std::string, Filter, std::less<>> filters = {{"attr", {attr}},
                                                                     {"batch", {batch, FilterCost::Deep}},
                                                                     {"count", {length_filter}},
                                                                     {"d", {default_filter}},
                                                                     {"default", {default_filter}},
                                                                     {"first", {first}},
                                                                     {"items", {items_filter}},
                                                                     {"last", {last}},
                                                                     {"length", {length_filter}},
                                                                     {"list", {list_filter}},
                                                                     {"map", {map_filter}},
                                                                     {"reject", {choose<false, false>}},
                                                                     {"rejectattr", {choose<false, true>}},
                                                                     {"reverse", {reverse}},
                                                                     {"select", {choose<true, false>}},
                                                                     {"selectattr", {choose<true, true>}}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : &found->second;
}

}  // namespace lamina::jinja
