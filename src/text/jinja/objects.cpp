// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/objects.h"

#include "base/error.h"
#include "text/jinja/operators.h"

namespace lamina::jinja {

namespace {

template <class Owner>
std::shared_ptr<Owner> alive(const std::weak_ptr<Owner>& owner) {
  auto locked = owner.lock();
  require(locked != nullptr, "a method is called after its loop or cycler has ended");
  return locked;
}

}  // namespace

void Namespace::set(const std::string& name, Value value) {
  require(!name.starts_with("_"), "a namespace cannot store \"{}\": the name begins with an underscore", name);
  values_[name] = std::move(value);
}

std::optional<Value> Namespace::attribute(const std::string& name) {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional<Value>(found->second);
}

std::optional<Value> Loop::attribute(const std::string& name) {
  const std::size_t size = items_.size();
  if (name == "index") return Value(index_ + 1);
  if (name == "index0") return Value(index_);
  if (name == "first") return Value(index_ == 0);
  if (name == "last") return Value(index_ + 1 >= size);
  if (name == "length") return Value(size);
  if (name == "revindex") return Value(size - index_);
  if (name == "revindex0") return Value(size - index_ - 1);
  if (name == "depth") return Value(1);
  if (name == "depth0") return Value(0);
  if (name == "previtem") return index_ == 0 ? Value::undefined("there is no previous item") : items_[index_ - 1];
  if (name == "nextitem") return index_ + 1 >= size ? Value::undefined("there is no next item") : items_[index_ + 1];
  if (name != "cycle" && name != "changed") return std::nullopt;
  return Function::make([self = weak_from_this(), name](Env&, const Args& args) {
    const auto loop = alive(self);
    return name == "cycle" ? loop->cycle(args) : loop->changed(args);
  });
}

void Loop::clear() {
  items_.clear();
  index_ = 0;
  last_seen_ = None{};
}

Value Loop::cycle(const Args& args) const {
  require(!args.positional.empty(), "no items for cycling given");
  return args.positional[index_ % args.positional.size()];
}

Value Loop::changed(const Args& args) {
  Value seen = Value::tuple(args.positional);
  if (equal(seen, last_seen_)) return false;
  last_seen_ = std::move(seen);
  return true;
}

std::optional<Value> Cycler::attribute(const std::string& name) {
  if (items_.empty()) return std::nullopt;
  if (name == "current") return items_[at_];
  if (name != "next" && name != "reset") return std::nullopt;
  return Function::make([self = weak_from_this(), next = name == "next"](Env&, const Args&) -> Value {
    const auto cycler = alive(self);
    if (!next || cycler->items_.empty()) {
      cycler->at_ = 0;
      return None{};
    }
    Value item = cycler->items_[cycler->at_];
    cycler->at_ = (cycler->at_ + 1) % cycler->items_.size();
    return item;
  });
}

}  // namespace lamina::jinja
