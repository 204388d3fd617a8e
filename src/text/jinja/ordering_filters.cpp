// SPDX-License-Identifier: Apache-2.0
// Filters that compare the items of a sequence, or add them up.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

Value folded(const Value& value, bool case_sensitive) {
  return case_sensitive || !value.is_string() ? value : Value(lower(value.as_string()));
}

using Keyed = std::pair<Value, Value>;  // what to compare, and the item

std::vector<Keyed> with_keys(const Value& input, const Value& path, bool case_sensitive) {
  std::vector<Keyed> out;
  for (Value& item : iterate(input)) {
    Value key = folded(path.is_none() ? item : get_path(item, path), case_sensitive);
    out.emplace_back(std::move(key), std::move(item));
  }
  return out;
}

Value sorted_items(std::vector<Keyed> items, bool descending) {
  const auto before = [&](const Keyed& a, const Keyed& b) {
    return descending ? less(b.first, a.first) : less(a.first, b.first);
  };
  std::stable_sort(items.begin(), items.end(), before);
  std::vector<Value> out;
  out.reserve(items.size());
  for (Keyed& item : items) out.push_back(std::move(item.second));
  return Value::list(std::move(out));
}

Value sort(Env& env, const Value& input, const Args& args) {
  const Parameters p("sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = p.bool_or(1, false);
  std::vector<Value> paths;
  if (p.has(2) && p.at(2).is_string()) {  // several attributes, separated by commas
    const std::string comma = ",";
    for (const std::string& path : split_left(p.at(2).as_string(), &comma, -1)) paths.emplace_back(path);
  } else {
    paths.push_back(p.value_or(2, None{}));
  }
  std::vector<Keyed> items;
  for (Value& item : iterate(input)) {
    std::vector<Value> keys;
    keys.reserve(paths.size());
    for (const Value& path : paths)
      keys.push_back(folded(path.is_none() ? item : get_path(item, path), case_sensitive));
    env.spend(keys.size());
    items.emplace_back(Value::list(std::move(keys)), std::move(item));
  }
  return sorted_items(std::move(items), p.bool_or(0, false));
}

Value dictsort(Env&, const Value& input, const Args& args) {
  const Parameters p("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = p.has(1) ? p.string_at(1) : "key";
  require(by == "key" || by == "value", "You can only sort by either \"key\" or \"value\"");
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  require(input.dict() != nullptr, "'{}' object has no attribute 'items'", type_name(input));
  std::vector<Keyed> items;
  for (const auto& [key, value] : input.dict()->entries()) {
    items.emplace_back(folded(by == "key" ? key : value, p.bool_or(0, false)), Value::tuple({key, value}));
  }
  return sorted_items(std::move(items), p.bool_or(2, false));
}

Value unique(Env&, const Value& input, const Args& args) {
  const Parameters p("unique", args, {"case_sensitive", "attribute"});
  Dict seen;
  std::vector<Value> out;
  for (auto& [key, item] : with_keys(input, p.value_or(1, None{}), p.bool_or(0, false))) {
    if (seen.find(key)) continue;
    seen.insert(key, true);
    out.push_back(std::move(item));
  }
  return Value::iterator(std::move(out));
}

template <bool Greatest>
Value extreme(Env&, const Value& input, const Args& args) {
  const Parameters p("min or max", args, {"case_sensitive", "attribute"});
  std::vector<Keyed> items = with_keys(input, p.value_or(1, None{}), p.bool_or(0, false));
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  std::size_t best = 0;
  for (std::size_t i = 1; i < items.size(); ++i) {
    const bool better =
        Greatest ? less(items[best].first, items[i].first, ">") : less(items[i].first, items[best].first);
    if (better) best = i;
  }
  return items[best].second;
}

Value sum(Env& env, const Value& input, const Args& args) {
  const Parameters p("sum", args, {"attribute", "start"});
  Value total = p.value_or(1, 0);
  require(!total.is_string(), "sum() can't sum strings [use ''.join(seq) instead]");
  const Value path = p.value_or(0, None{});
  for (const Value& item : iterate(input)) {
    total = arithmetic("+", total, path.is_none() ? item : get_path(item, path));
    env.spend_on(total);
  }
  return total;
}

}  // namespace

const Filter* find_ordering_filter(const std::string& name) {
  static const std::map<std::string, Filter, std::less<>> filters = {{"dictsort", {dictsort, FilterCost::Deep}},
                                                                     {"max", {extreme<true>, FilterCost::Deep}},
                                                                     {"min", {extreme<false>, FilterCost::Deep}},
                                                                     {"sort", {sort, FilterCost::Deep}},
                                                                     {"sum", {sum}},
                                                                     {"unique", {unique, FilterCost::Deep}}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : &found->second;
}

}  // namespace lamina::jinja
