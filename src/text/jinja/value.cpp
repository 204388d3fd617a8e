// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "text/jinja/operators.h"

namespace lamina::jinja {

namespace {

constexpr std::size_t kIndexFrom = 16;  // a smaller dict is searched from end to end

void check_size(int depth, std::size_t nodes) {
  require(depth <= kMaxValueDepth, "a value is nested deeper than {} levels", kMaxValueDepth);
  require(nodes <= kMaxValueNodes, "a value has more than {} parts", kMaxValueNodes);
}

}  // namespace

Value Value::undefined(std::string reason) { return Undefined{std::make_shared<const std::string>(std::move(reason))}; }

Value Value::list(std::vector<Value> items) {
  return std::make_shared<const Sequence>(Sequence::Kind::List, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return std::make_shared<const Sequence>(Sequence::Kind::Tuple, std::move(items));
}

Value Value::iterator(std::vector<Value> items) {
  Sequence checked(Sequence::Kind::List, std::move(items));  // as the list that it could become
  return std::make_shared<Iterator>(Iterator{std::move(checked.items), checked.depth, checked.nodes, 0});
}

bool Value::is_list() const { return sequence() && sequence()->kind == Sequence::Kind::List; }
bool Value::is_tuple() const { return sequence() && sequence()->kind == Sequence::Kind::Tuple; }

int Value::depth() const {
  if (sequence()) return sequence()->depth;
  if (dict()) return dict()->depth();
  if (object()) return object()->depth();
  return iterator() ? iterator()->depth : 0;
}

std::size_t Value::nodes() const {
  if (sequence()) return sequence()->nodes;
  if (dict()) return dict()->nodes();
  return iterator() ? iterator()->nodes : 1;
}

Sequence::Sequence(Kind k, std::vector<Value> v, std::string l) : kind(k), items(std::move(v)), label(std::move(l)) {
  for (const Value& item : items) {
    depth = std::max(depth, item.depth() + 1);
    nodes += item.nodes();
  }
  check_size(depth, nodes);
}

void Dict::insert(Value key, Value value) {
  const std::size_t key_hash = hash(key);
  const std::size_t at = index_of(key);
  depth_ = std::max({depth_, value.depth() + 1, key.depth() + 1});
  nodes_ += value.nodes() + key.nodes();
  check_size(depth_, nodes_);
  if (at < entries_.size()) {
    entries_[at].second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() == kIndexFrom) {
    for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(hash(entries_[i].first), i);
  } else if (entries_.size() > kIndexFrom) {
    index_.emplace(key_hash, at);
  }
}

std::size_t Dict::index_of(const Value& key) const {
  if (entries_.size() < kIndexFrom) {
    std::size_t i = 0;
    while (i < entries_.size() && !equal(entries_[i].first, key)) ++i;
    return i;
  }
  const auto [first, last] = index_.equal_range(hash(key));
  for (auto it = first; it != last; ++it) {
    if (equal(entries_[it->second].first, key)) return it->second;
  }
  return entries_.size();
}

const Value* Dict::find(const Value& key) const {
  const std::size_t at = index_of(key);
  return at < entries_.size() ? &entries_[at].second : nullptr;
}

Env::~Env() {
  for (const auto& object : kept_) object->clear();
}

void Env::spend(std::uint64_t steps) {
  require(steps <= steps_, "the template takes too many steps");
  steps_ -= steps;
}

void Env::spend_on(const Value& value) {
  if (value.is_string()) {
    spend(value.as_string().size() / 64);
  } else if (value.sequence()) {
    spend(value.sequence()->items.size());
  } else if (value.dict()) {
    spend(value.dict()->entries().size());
  } else if (value.iterator()) {
    spend(value.iterator()->items.size());
  }
}

void Env::spend_deep(const Value& value) {
  if (value.is_string()) return spend_on(value);
  spend(value.nodes() / 4);
}

void Env::spend_on_search(const Value& text, const Value& wanted) {
  if (!text.is_string() || !wanted.is_string()) return;
  spend((text.as_string().size() / 64) * (wanted.as_string().size() / 64));
}

Value Object::call(Env&, const Args&) { fail("'{}' object is not callable", type_name()); }

std::optional<Value> Object::attribute(const std::string&) { return std::nullopt; }

std::size_t hash(const Value& value) {
  if (value.is_integral()) return std::hash<std::int64_t>{}(value.as_int());
  if (value.is_float()) {
    const double d = value.as_double();
    const bool whole = std::floor(d) == d && std::abs(d) < 9e18;
    return whole ? std::hash<std::int64_t>{}(static_cast<std::int64_t>(d)) : std::hash<double>{}(d);
  }
  if (value.is_string()) return std::hash<std::string>{}(value.as_string());
  if (value.is_tuple()) {
    std::size_t combined = 17;
    for (const Value& item : value.sequence()->items) combined = combined * 31 + hash(item);
    return combined;
  }
  require(!value.sequence() && !value.dict(), "unhashable type: '{}'", type_name(value));
  return std::hash<const void*>{}(value.object());
}

std::string type_name(const Value& value) {
  if (value.is_none()) return "NoneType";
  if (value.is_undefined()) return "Undefined";
  if (value.is_bool()) return "bool";
  if (value.is_int()) return "int";
  if (value.is_float()) return "float";
  if (value.is_string()) return value.is_markup() ? "Markup" : "str";
  if (value.is_list()) return "list";
  if (value.is_tuple()) return "tuple";
  if (value.sequence()) return value.sequence()->kind == Sequence::Kind::Range ? "range" : value.sequence()->label;
  if (value.dict()) return "dict";
  return value.iterator() ? "generator" : value.object()->type_name();
}

}  // namespace lamina::jinja
