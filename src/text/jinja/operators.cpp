// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/operators.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/jinja/methods.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

void reject_undefined(const Value& value) {
  if (value.is_undefined()) fail("{}", *value.undefined()->reason);
}

bool equal_sequences(const Sequence& a, const Sequence& b) {
  return a.kind == b.kind && std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other && equal(entry.second, *other);
  });
}

bool less_sequences(const Sequence& a, const Sequence& b, std::string_view shown) {
  const auto [x, y] = std::mismatch(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
  if (x == a.items.end() || y == b.items.end()) return a.items.size() < b.items.size();
  return less(*x, *y, shown);
}

// The indices that a slice visits, as Python's slice.indices.
std::vector<std::size_t> slice_indices(const SliceBounds& bounds, std::int64_t size) {
  const std::int64_t step = bounds.step.value_or(1);
  require(step != 0, "slice step cannot be zero");
  const bool back = step < 0;
  const std::int64_t low = back ? -1 : 0;
  const std::int64_t high = back ? size - 1 : size;
  const auto clamp = [&](std::optional<std::int64_t> bound, std::int64_t otherwise) {
    if (!bound) return otherwise;
    return std::clamp(*bound < 0 ? *bound + size : *bound, low, high);
  };
  std::int64_t at = clamp(bounds.start, back ? high : low);
  const std::int64_t stop = clamp(bounds.stop, back ? low : high);
  std::vector<std::size_t> out;
  while (back ? at > stop : at < stop) {
    out.push_back(static_cast<std::size_t>(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return out;
}

std::string label_of_range(const std::vector<Value>& items) {
  const std::int64_t start = items.empty() ? 0 : items[0].as_int();
  const std::int64_t step = items.size() < 2 ? 1 : items[1].as_int() - start;
  return range_label(start, start + step * static_cast<std::int64_t>(items.size()), step);
}

// The names that Undefined's message gives to the owner of a missing attribute.
std::string owner_name(const Value& value) {
  if (value.is_none()) return "None";
  return type_name(value) + " object";
}

Value missing(const Value& owner, const Value& key) {
  if (key.is_string()) {
    return Value::undefined("'" + owner_name(owner) + "' has no attribute " + repr(key));
  }
  return Value::undefined(owner_name(owner) + " has no element " + repr(key));
}

// value[key] alone, without the fall-back to attributes.
std::optional<Value> element(const Value& value, const Value& key) {
  if (const Dict* dict = value.dict()) {
    const bool hashable = !key.dict() && (!key.sequence() || key.is_tuple());
    const Value* found = hashable ? dict->find(key) : nullptr;
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  const Sequence* sequence = value.sequence();
  const bool indexed = value.is_string() || (sequence && sequence->kind != Sequence::Kind::View);
  if (!indexed || !key.is_integral()) return std::nullopt;
  const auto size = static_cast<std::int64_t>(*length(value));
  const std::int64_t at = key.as_int() < 0 ? key.as_int() + size : key.as_int();
  if (at < 0 || at >= size) return std::nullopt;
  if (sequence) return sequence->items[static_cast<std::size_t>(at)];
  return slice(value, {at, at + 1, std::nullopt});
}

std::optional<Value> attribute(const Value& value, const std::string& name) {
  if (Object* object = value.object()) return object->attribute(name);
  return find_method(value, name);
}

}  // namespace

bool truthy(const Value& value) {
  if (value.is_bool()) return value.as_bool();
  if (value.is_none() || value.is_undefined()) return false;
  if (value.is_int()) return value.as_int() != 0;
  if (value.is_float()) return value.as_double() != 0;
  return length(value).value_or(1) != 0;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.as_double() == b.as_double() : a.as_int() == b.as_int();
  }
  if (a.is_string() && b.is_string()) return a.as_string() == b.as_string();
  if (a.sequence() && b.sequence()) {
    return a.sequence() == b.sequence() || equal_sequences(*a.sequence(), *b.sequence());
  }
  if (a.dict() && b.dict()) return a.dict() == b.dict() || equal_dicts(*a.dict(), *b.dict());
  if (a.object() || b.object()) return a.object() == b.object();
  if (a.iterator() || b.iterator()) return a.iterator() == b.iterator();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b, std::string_view shown) {
  reject_undefined(a);
  reject_undefined(b);
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.as_double() < b.as_double() : a.as_int() < b.as_int();
  }
  if (a.is_string() && b.is_string()) return a.as_string() < b.as_string();  // UTF-8 sorts as code points do
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    return less_sequences(*a.sequence(), *b.sequence(), shown);
  }
  fail("'{}' not supported between instances of '{}' and '{}'", shown, type_name(a), type_name(b));
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    require(item.is_string(), "'in <string>' requires string as left operand, not {}", type_name(item));
    return container.as_string().find(item.as_string()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    hash(item);  // an unhashable item is an error
    return dict->find(item) != nullptr;
  }
  if (const Sequence* sequence = container.sequence()) {
    return std::any_of(sequence->items.begin(), sequence->items.end(), [&](const Value& v) { return equal(v, item); });
  }
  require(iterable(container), "argument of type '{}' is not iterable", type_name(container));
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(v, item); });
}

bool compare(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  const bool not_a_number =
      (a.is_float() && a.as_double() != a.as_double()) || (b.is_float() && b.as_double() != b.as_double());
  if (op == "<") return less(a, b, op);
  if (op == ">") {
    reject_undefined(a);
    const bool pair = (a.is_number() && b.is_number()) || (a.is_string() && b.is_string()) || b.is_undefined() ||
                      (a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple());
    require(pair, "'>' not supported between instances of '{}' and '{}'", type_name(a), type_name(b));
    return less(b, a, op);
  }
  return (op == "<=" ? !compare(">", a, b) : !compare("<", a, b)) && !not_a_number;
}

std::optional<std::size_t> length(const Value& value) {
  if (value.is_string()) return count_characters(value.as_string());
  if (value.sequence()) return value.sequence()->items.size();
  if (value.dict()) return value.dict()->entries().size();
  if (value.is_undefined()) return 0;
  return std::nullopt;
}

bool iterable(const Value& value) {
  return value.is_string() || value.sequence() || value.dict() || value.iterator() || value.is_undefined();
}

std::vector<Value> iterate(const Value& value) {
  require(iterable(value), "'{}' object is not iterable", type_name(value));
  if (value.sequence()) return value.sequence()->items;
  std::vector<Value> out;
  if (value.is_string()) {
    require(value.as_string().size() <= kMaxValueNodes, "a string of more than {} bytes cannot be walked",
            kMaxValueNodes);
    for (std::string_view character : characters(value.as_string())) out.emplace_back(character, value.is_markup());
  } else if (value.dict()) {
    for (const auto& entry : value.dict()->entries()) out.push_back(entry.first);
  } else if (Iterator* iterator = value.iterator()) {
    out.assign(iterator->items.begin() + static_cast<std::ptrdiff_t>(iterator->next), iterator->items.end());
    iterator->next = iterator->items.size();
  }
  return out;
}

std::string range_label(std::int64_t start, std::int64_t stop, std::int64_t step) {
  return step == 1 ? fmt::format("range({}, {})", start, stop) : fmt::format("range({}, {}, {})", start, stop, step);
}

Value slice(const Value& value, const SliceBounds& bounds) {
  if (value.is_string()) {
    const auto parts = characters(value.as_string());
    std::string out;
    for (std::size_t i : slice_indices(bounds, static_cast<std::int64_t>(parts.size()))) out += parts[i];
    return Value(std::move(out), value.is_markup());
  }
  reject_undefined(value);
  const Sequence* sequence = value.sequence();
  const bool sliceable = sequence && sequence->kind != Sequence::Kind::View;
  require(sliceable, "'{}' object cannot be sliced", type_name(value));
  std::vector<Value> out;
  for (std::size_t i : slice_indices(bounds, static_cast<std::int64_t>(sequence->items.size()))) {
    out.push_back(sequence->items[i]);
  }
  const bool range = sequence->kind == Sequence::Kind::Range;
  std::string label = range ? label_of_range(out) : "";
  return std::make_shared<const Sequence>(sequence->kind, std::move(out), std::move(label));
}

Value get_item(const Value& value, const Value& key) {
  reject_undefined(value);
  if (auto found = element(value, key)) return *found;
  if (key.is_string()) {
    if (auto found = attribute(value, key.as_string())) return *found;
  }
  return missing(value, key);
}

Value get_attribute(const Value& value, const std::string& name) {
  reject_undefined(value);
  if (auto found = attribute(value, name)) return *found;
  if (auto found = element(value, Value(name))) return *found;
  return missing(value, Value(name));
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace lamina::jinja
