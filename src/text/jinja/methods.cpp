// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/methods.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace lamina::jinja {

namespace {

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string name, MethodFunction function)
      : self_(std::move(self)), name_(std::move(name)), function_(function) {
    require(self_.depth() < kMaxValueDepth, "a value is nested deeper than {} levels", kMaxValueDepth);
  }
  std::string type_name() const override { return "builtin_function_or_method"; }
  std::string repr() const override {
    return "<built-in method " + name_ + " of " + jinja::type_name(self_) + " object>";
  }
  bool callable() const override { return true; }
  int depth() const override { return self_.depth() + 1; }
  Value call(Env& env, const Args& args) override {
    env.spend_on(self_);
    for (const Value& argument : args.positional) env.spend_on_search(self_, argument);
    Value out = function_(env, self_, args);
    env.spend_on(out);
    return out;
  }

 private:
  Value self_;
  std::string name_;
  MethodFunction function_;
};

Value dict_get(Env&, const Value& self, const Args& args) {
  const Parameters p("get", args, {"key", "default"});
  hash(p.at(0));
  const Value* found = self.dict()->find(p.at(0));
  return found ? *found : p.value_or(1, None{});
}

Value view(const char* label, std::vector<Value> items) {
  return std::make_shared<const Sequence>(Sequence::Kind::View, std::move(items), label);
}

Value dict_items(Env&, const Value& self, const Args& args) {
  const Parameters p("items", args, {});
  std::vector<Value> out;
  for (const auto& [key, value] : self.dict()->entries()) out.push_back(Value::tuple({key, value}));
  return view("dict_items", std::move(out));
}

Value dict_keys(Env&, const Value& self, const Args& args) {
  const Parameters p("keys", args, {});
  return view("dict_keys", iterate(self));
}

Value dict_values(Env&, const Value& self, const Args& args) {
  const Parameters p("values", args, {});
  std::vector<Value> out;
  for (const auto& entry : self.dict()->entries()) out.push_back(entry.second);
  return view("dict_values", std::move(out));
}

Value copy(Env&, const Value& self, const Args& args) {
  const Parameters p("copy", args, {});
  return self;  // values do not change, so the copy may be the thing itself
}

Value sequence_count(Env&, const Value& self, const Args& args) {
  const Parameters p("count", args, {"value"});
  const auto& items = self.sequence()->items;
  return Value(static_cast<std::int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& v) { return equal(v, p.at(0)); })));
}

Value sequence_index(Env&, const Value& self, const Args& args) {
  const Parameters p("index", args, {"value"});
  const auto& items = self.sequence()->items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& v) { return equal(v, p.at(0)); });
  require(found != items.end(), "{} is not in list", repr(p.at(0)));
  return Value(static_cast<std::int64_t>(found - items.begin()));
}

MethodFunction find_dict_method(const std::string& name) {
  static const std::map<std::string, MethodFunction, std::less<>> methods = {
      {"copy", copy}, {"get", dict_get}, {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}};
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

MethodFunction find_sequence_method(const Value& self, const std::string& name) {
  if (name == "count") return sequence_count;
  if (name == "index") return sequence_index;
  return name == "copy" && self.is_list() ? copy : nullptr;
}

bool changes(const Value& self, const std::string& name) {
  static const std::set<std::string, std::less<>> of_list = {"append", "clear",  "extend",  "insert",
                                                             "pop",    "remove", "reverse", "sort"};
  static const std::set<std::string, std::less<>> of_dict = {"clear", "pop", "popitem", "setdefault", "update"};
  return (self.is_list() && of_list.count(name) > 0) || (self.dict() && of_dict.count(name) > 0);
}

}  // namespace

std::optional<Value> find_method(const Value& self, const std::string& name) {
  if (changes(self, name)) {
    return Value::undefined("access to attribute '" + name + "' of '" + type_name(self) + "' object is unsafe.");
  }
  MethodFunction function = nullptr;
  if (self.is_string()) {
    function = find_string_method(name);
  } else if (self.dict()) {
    function = find_dict_method(name);
  } else if (self.sequence() && self.sequence()->kind != Sequence::Kind::View) {
    function = find_sequence_method(self, name);
  }
  if (!function) return std::nullopt;
  return Value(std::static_pointer_cast<Object>(std::make_shared<BoundMethod>(self, name, function)));
}

}  // namespace lamina::jinja
