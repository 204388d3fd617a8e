// SPDX-License-Identifier: Apache-2.0
// The values of a template, with Python's types. All are immutable except namespaces, loops and other objects, so
// sharing is safe and no cycle can arise but through a namespace or loop, whose contents the interpreter drops at the
// end.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace lamina::jinja {

class Value;
class Object;
struct Sequence;
class Dict;
struct Iterator;

struct None {};

// What a missing name or attribute gives: prints as nothing, and most uses are an error that tells `reason`.
struct Undefined {
  std::shared_ptr<const std::string> reason;
};

// UTF-8; `markup` is set by the safe and escape filters (Python's Markup): adding to it escapes the other side.
struct Text {
  std::shared_ptr<const std::string> bytes;
  bool markup = false;
};

class Value {
 public:
  Value() : data_(None{}) {}
  Value(None none) : data_(none) {}
  Value(bool b) : data_(b) {}
  Value(int i) : data_(std::int64_t{i}) {}
  Value(std::int64_t i) : data_(i) {}
  Value(std::size_t n) : data_(static_cast<std::int64_t>(n)) {}
  Value(double d) : data_(d) {}
  Value(std::string s, bool markup = false) : data_(Text{std::make_shared<const std::string>(std::move(s)), markup}) {}
  Value(std::string_view s, bool markup = false) : Value(std::string(s), markup) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(Undefined u) : data_(std::move(u)) {}
  Value(std::shared_ptr<const Sequence> s) : data_(std::move(s)) {}
  Value(std::shared_ptr<const Dict> d) : data_(std::move(d)) {}
  Value(std::shared_ptr<Iterator> i) : data_(std::move(i)) {}
  Value(std::shared_ptr<Object> o) : data_(std::move(o)) {}

  static Value undefined(std::string reason);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value iterator(std::vector<Value> items);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_integral() const { return is_int() || is_bool(); }  // a Python bool is an int
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integral() || is_float(); }
  bool is_string() const { return std::holds_alternative<Text>(data_); }
  bool is_markup() const { return is_string() && std::get<Text>(data_).markup; }
  bool is_list() const;
  bool is_tuple() const;

  // Each is nullptr, or the thing itself, by type.
  const Undefined* undefined() const { return std::get_if<Undefined>(&data_); }
  const Sequence* sequence() const { return pointer<std::shared_ptr<const Sequence>>(); }
  const Dict* dict() const { return pointer<std::shared_ptr<const Dict>>(); }
  Iterator* iterator() const { return pointer<std::shared_ptr<Iterator>>(); }
  Object* object() const { return pointer<std::shared_ptr<Object>>(); }

  bool as_bool() const { return std::get<bool>(data_); }
  std::int64_t as_int() const { return is_bool() ? std::int64_t{as_bool()} : std::get<std::int64_t>(data_); }
  double as_double() const { return is_float() ? std::get<double>(data_) : static_cast<double>(as_int()); }
  const std::string& as_string() const { return *std::get<Text>(data_).bytes; }

  // Nesting of containers, and all values inside, shared ones counted each time: both bounded at construction, so
  // walking any value ends soon and recursion on it is safe.
  int depth() const;
  std::size_t nodes() const;

 private:
  template <class P>
  typename P::element_type* pointer() const {
    const P* p = std::get_if<P>(&data_);
    return p ? p->get() : nullptr;
  }

  std::variant<None, Undefined, bool, std::int64_t, double, Text, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, std::shared_ptr<Iterator>, std::shared_ptr<Object>>
      data_;
};

constexpr int kMaxValueDepth = 200;
constexpr std::size_t kMaxValueNodes = 1'000'000;
constexpr std::size_t kMaxStringBytes = std::size_t{64} << 20;

// list, tuple, range, and the views that dict.items() and its like return.
struct Sequence {
  enum class Kind { List, Tuple, Range, View };
  Sequence(Kind k, std::vector<Value> v, std::string l = {});  // throws Error over the bounds above

  Kind kind;
  std::vector<Value> items;
  std::string label;  // how Python prints it: "range(0, 3)" whole, "dict_keys" before its items
  int depth = 1;
  std::size_t nodes = 1;
};

// Keeps the order of insertion, as Python does.
class Dict {
 public:
  void insert(Value key, Value value);        // replaces; throws Error for a key that has no hash
  const Value* find(const Value& key) const;  // nullptr: absent
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  int depth() const { return depth_; }
  std::size_t nodes() const { return nodes_; }

 private:
  std::size_t index_of(const Value& key) const;  // entries_.size(): absent

  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_multimap<std::size_t, std::size_t> index_;  // hash -> entry; filled only when there are many
  int depth_ = 1;
  std::size_t nodes_ = 1;
};

// What Python's generators are here: can be walked once, has no length and no elements.
struct Iterator {
  std::vector<Value> items;
  int depth = 1;
  std::size_t nodes = 1;
  std::size_t next = 0;
};

// Arguments of a call, filter or test.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// What a render may spend: about one step for each node evaluated, each value made and each 64 bytes of text.
struct Limits {
  std::uint64_t steps = 20'000'000;
  std::size_t output_bytes = kMaxStringBytes;
};

// The state that filters, tests and functions may use.
class Env {
 public:
  Env(const Limits& limits, std::chrono::system_clock::time_point time) : now(time), steps_(limits.steps) {}
  ~Env();
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;

  void spend(std::uint64_t steps);      // throws Error when the template has used up its steps
  void spend_on(const Value& value);    // as many as making the value cost, its parts being there already
  void spend_deep(const Value& value);  // as many as walking all its parts costs
  void spend_on_search(const Value& text, const Value& wanted);  // the worst case of looking for a substring

  // Objects whose contents may lead back to themselves are emptied when the render ends.
  void keep(std::shared_ptr<Object> object) { kept_.push_back(std::move(object)); }

  const std::chrono::system_clock::time_point now;

 private:
  std::uint64_t steps_;
  std::vector<std::shared_ptr<Object>> kept_;
};

// Namespaces, loops, macros, functions.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  virtual std::string repr() const { return "<" + type_name() + ">"; }
  virtual bool callable() const { return false; }
  virtual int depth() const { return 0; }                           // of the values that it holds for ever
  virtual Value call(Env& env, const Args& args);                   // throws Error unless callable
  virtual std::optional<Value> attribute(const std::string& name);  // empty: none of that name
  virtual void clear() {}                                           // drops the values inside
};

std::size_t hash(const Value& value);  // throws Error for a value that has none
std::string type_name(const Value& value);

}  // namespace lamina::jinja
