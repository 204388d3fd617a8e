// SPDX-License-Identifier: Apache-2.0
// The arithmetic operators of operators.h. Integers are 64-bit: where Python's would grow, this is an error.
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"

namespace lamina::jinja {

namespace {

template <bool (*Operation)(std::int64_t, std::int64_t, std::int64_t*)>
std::int64_t checked(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  require(!Operation(a, b, &out), "an integer does not fit in 64 bits");
  return out;
}
bool add_overflows(std::int64_t a, std::int64_t b, std::int64_t* out) { return __builtin_add_overflow(a, b, out); }
bool sub_overflows(std::int64_t a, std::int64_t b, std::int64_t* out) { return __builtin_sub_overflow(a, b, out); }
bool mul_overflows(std::int64_t a, std::int64_t b, std::int64_t* out) { return __builtin_mul_overflow(a, b, out); }

// Division that rounds down and its remainder, which has the divisor's sign.
std::pair<std::int64_t, std::int64_t> floor_divide(std::int64_t a, std::int64_t b) {
  require(b != 0, "integer division or modulo by zero");
  require(b != -1 || a != std::numeric_limits<std::int64_t>::min(), "an integer does not fit in 64 bits");
  const std::int64_t quotient = a / b;
  const std::int64_t remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  return adjust ? std::pair{quotient - 1, remainder + b} : std::pair{quotient, remainder};
}

double float_modulo(double a, double b) {
  require(b != 0, "float modulo");
  const double remainder = std::fmod(a, b);
  if (remainder == 0) return std::copysign(0.0, b);
  return (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

std::int64_t integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t out = 1;
  while (true) {
    if (exponent & 1) out = checked<mul_overflows>(out, base);
    exponent >>= 1;
    if (exponent == 0) return out;
    base = checked<mul_overflows>(base, base);
  }
}

Value power(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral() && b.as_int() >= 0) {
    const std::int64_t base = a.as_int();
    if (base == 0 || base == 1) return b.as_int() == 0 ? std::int64_t{1} : base;
    if (base == -1) return std::int64_t{b.as_int() % 2 == 0 ? 1 : -1};
    return integer_power(base, b.as_int());
  }
  require(a.as_double() != 0 || b.as_double() >= 0, "0.0 cannot be raised to a negative power");
  const double out = std::pow(a.as_double(), b.as_double());
  require(std::isfinite(out) || !std::isfinite(a.as_double()) || !std::isfinite(b.as_double()),
          "a power is out of range");
  return out;
}

Value integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
  if (op == "+") return checked<add_overflows>(a, b);
  if (op == "-") return checked<sub_overflows>(a, b);
  if (op == "*") return checked<mul_overflows>(a, b);
  if (op == "//") return floor_divide(a, b).first;
  if (op == "%") return floor_divide(a, b).second;
  require(b != 0, "division by zero");
  return static_cast<double>(a) / static_cast<double>(b);
}

Value float_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "%") return float_modulo(a, b);
  require(b != 0, "{}", op == "//" ? "float floor division by zero" : "float division by zero");
  if (op == "/") return a / b;
  const double quotient = (a - float_modulo(a, b)) / b;
  return quotient == 0 ? std::copysign(0.0, a / b) : std::floor(quotient + 0.5);
}

Value repeat(const Value& value, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  if (value.is_string()) {
    const std::string& text = value.as_string();
    require(text.empty() || static_cast<std::size_t>(times) <= kMaxStringBytes / text.size(),
            "a string of more than {} bytes", kMaxStringBytes);
    std::string out;
    out.reserve(text.size() * static_cast<std::size_t>(times));
    for (std::int64_t i = 0; i < times && !text.empty(); ++i) out += text;
    return Value(std::move(out), value.is_markup());
  }
  const std::vector<Value>& items = value.sequence()->items;
  require(items.empty() || static_cast<std::size_t>(times) <= kMaxValueNodes / items.size(),
          "a value has more than {} parts", kMaxValueNodes);
  std::vector<Value> out;
  for (std::int64_t i = 0; i < times && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return std::make_shared<const Sequence>(value.sequence()->kind, std::move(out));
}

Value join_strings(const Value& a, const Value& b) {
  const std::string &x = a.as_string(), &y = b.as_string();
  require(x.size() + y.size() <= kMaxStringBytes, "a string of more than {} bytes", kMaxStringBytes);
  if (a.is_markup() == b.is_markup()) return Value(x + y, a.is_markup());
  return a.is_markup() ? Value(x + escape_html(y), true) : Value(escape_html(x) + y, true);
}

Value join_sequences(const Sequence& a, const Sequence& b) {
  std::vector<Value> out = a.items;
  out.insert(out.end(), b.items.begin(), b.items.end());
  return std::make_shared<const Sequence>(a.kind, std::move(out));
}

Value add(const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) return join_strings(a, b);
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple()))
    return join_sequences(*a.sequence(), *b.sequence());
  const bool joins = a.is_string() || a.is_list() || a.is_tuple();
  const std::string left = type_name(a), right = type_name(b);
  require(!joins, "can only concatenate {} (not \"{}\") to {}", left, right, left);
  fail("unsupported operand type(s) for +: '{}' and '{}'", left, right);
}

}  // namespace

Value arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (op == "%" && a.is_string()) return format_percent(a, b);
  for (const Value* side : {&a, &b}) {
    if (side->is_undefined()) fail("{}", *side->undefined()->reason);
  }
  if (a.is_number() && b.is_number()) {
    if (op == "**") return power(a, b);
    if (a.is_float() || b.is_float()) return float_arithmetic(op, a.as_double(), b.as_double());
    return integer_arithmetic(op, a.as_int(), b.as_int());
  }
  if (op == "+") return add(a, b);
  if (op == "*") {
    const auto repeats = [](const Value& v) { return v.is_string() || v.is_list() || v.is_tuple(); };
    if (repeats(a) && b.is_integral()) return repeat(a, b.as_int());
    if (a.is_integral() && repeats(b)) return repeat(b, a.as_int());
    if (repeats(a)) fail("can't multiply sequence by non-int of type '{}'", type_name(b));
    if (repeats(b)) fail("can't multiply sequence by non-int of type '{}'", type_name(a));
  }
  fail("unsupported operand type(s) for {}: '{}' and '{}'", op == "**" ? "** or pow()" : op, type_name(a),
       type_name(b));
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail("{}", *value.undefined()->reason);
  require(value.is_number(), "bad operand type for unary -: '{}'", type_name(value));
  if (value.is_float()) return -value.as_double();
  return checked<sub_overflows>(0, value.as_int());
}

Value positive(const Value& value) {
  if (value.is_undefined()) fail("{}", *value.undefined()->reason);
  require(value.is_number(), "bad operand type for unary +: '{}'", type_name(value));
  return value.is_float() ? value : Value(value.as_int());
}

}  // namespace lamina::jinja
