// SPDX-License-Identifier: Apache-2.0
// The objects that a template can hold: functions, namespaces, the loop variable, cyclers.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace lamina::jinja {

class Function : public Object {
 public:
  using Body = std::function<Value(Env&, const Args&)>;
  explicit Function(Body body) : body_(std::move(body)) {}
  static Value make(Body body) {
    return Value(std::static_pointer_cast<Object>(std::make_shared<Function>(std::move(body))));
  }
  std::string type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Env& env, const Args& args) override { return body_(env, args); }

 private:
  Body body_;
};

class Namespace : public Object {
 public:
  void set(const std::string& name, Value value);  // throws Error for a name with a leading underscore
  std::string type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(const std::string& name) override;
  void clear() override { values_.clear(); }

 private:
  std::map<std::string, Value> values_;
};

// The variable `loop`. It is emptied when its loop ends.
class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(std::vector<Value> items) : items_(std::move(items)) {}
  void move_to(std::size_t index) { index_ = index; }
  const std::vector<Value>& items() const { return items_; }
  std::string type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(const std::string& name) override;
  void clear() override;

 private:
  Value cycle(const Args& args) const;
  Value changed(const Args& args);

  std::vector<Value> items_;
  std::size_t index_ = 0;
  Value last_seen_;  // what changed() was last called with
};

class Cycler : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(const std::string& name) override;
  void clear() override { items_.clear(); }

 private:
  std::vector<Value> items_;
  std::size_t at_ = 0;
};

}  // namespace lamina::jinja
