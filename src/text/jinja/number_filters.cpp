// SPDX-License-Identifier: Apache-2.0
// Filters that make numbers.
#include <cmath>
#include <map>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

std::optional<std::int64_t> truncated(double number) {
  if (std::isnan(number) || std::isinf(number)) return std::nullopt;
  require(std::abs(number) < 9e18, "an integer does not fit in 64 bits");
  return static_cast<std::int64_t>(number);
}

Value int_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("int", args, {"default", "base"});
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  std::optional<std::int64_t> number;
  if (input.is_integral()) number = input.as_int();
  if (input.is_float()) number = truncated(input.as_double());
  if (input.is_string()) {
    number = parse_int(input.as_string(), static_cast<int>(p.int_or(1, 10)));
    if (!number) {
      const auto real = parse_float(input.as_string());
      if (real) number = truncated(*real);
    }
  }
  return number ? Value(*number) : p.value_or(0, 0);
}

Value float_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("float", args, {"default"});
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  if (input.is_number()) return input.as_double();
  const auto number = input.is_string() ? parse_float(input.as_string()) : std::nullopt;
  return number ? Value(*number) : p.value_or(0, 0.0);
}

Value abs_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("abs", args, {});
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  require(input.is_number(), "bad operand type for abs(): '{}'", type_name(input));
  if (input.is_float()) return std::abs(input.as_double());
  return input.as_int() < 0 ? negate(input) : Value(input.as_int());
}

// Half to even, decided on the exact decimal expansion, as Python's round does.
double round_decimal(double number, std::int64_t digits) {
  if (!std::isfinite(number) || digits > 300) return number;
  if (digits < -300) return 0.0 * number;
  if (digits >= 0) return std::stod(fmt::format("{:.{}f}", number, digits));
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(number / scale) * scale;
}

Value round_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("round", args, {"precision", "method"});
  const std::string method = p.has(1) ? p.string_at(1) : "common";
  const std::int64_t digits = p.int_or(0, 0);
  if (input.is_undefined()) fail("{}", *input.undefined()->reason);
  require(input.is_number(), "type {} doesn't define __round__ method", type_name(input));
  require(method == "common" || method == "ceil" || method == "floor", "method must be common, ceil or floor");
  if (method == "common") {
    if (input.is_integral() && digits >= 0) return Value(input.as_int());
    const double rounded = round_decimal(input.as_double(), digits);
    return input.is_float() ? Value(rounded) : Value(*truncated(rounded));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = input.as_double() * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

}  // namespace

const Filter* find_number_filter(const std::string& name) {
  static const std::map<std::string, Filter, std::less<>> filters = {
      {"abs", {abs_filter}}, {"float", {float_filter}}, {"int", {int_filter}}, {"round", {round_filter}}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : &found->second;
}

}  // namespace lamina::jinja
