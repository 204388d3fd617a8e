// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/format.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "base/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

constexpr int kMaxWidth = 4096;

struct Specification {
  std::string flags;
  int width = 0;
  std::optional<int> precision;
  char type = 's';
};

class PercentFormatter {
 public:
  PercentFormatter(const Value& format, const Value& args)
      : text_(format.as_string()), markup_(format.is_markup()), args_(args) {}

  Value run() {
    while (at_ < text_.size()) {
      const std::size_t percent = text_.find('%', at_);
      append_bounded(out_, text_.substr(at_, percent == std::string_view::npos ? percent : percent - at_));
      if (percent == std::string_view::npos) break;
      at_ = percent + 1;
      append_bounded(out_, conversion());
    }
    const bool used_up = args_.is_tuple() ? next_ == args_.sequence()->items.size() : next_ > 0 || args_.dict();
    require(used_up, "not all arguments converted during string formatting");
    return Value(std::move(out_), markup_);
  }

 private:
  char peek() const {
    require(at_ < text_.size(), "incomplete format");
    return text_[at_];
  }

  int number() {
    int value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (text_[at_++] - '0');
      require(value <= kMaxWidth, "a format is wider than {} characters", kMaxWidth);
    }
    return value;
  }

  std::string conversion() {
    std::optional<std::string> key;
    if (peek() == '(') {
      const std::size_t close = text_.find(')', at_);
      require(close != std::string_view::npos, "incomplete format key");
      key = std::string(text_.substr(at_ + 1, close - at_ - 1));
      at_ = close + 1;
    }
    Specification spec;
    while (std::string_view("-+ #0").find(peek()) != std::string_view::npos) spec.flags += text_[at_++];
    spec.width = number();
    if (peek() == '.') {
      ++at_;
      spec.precision = number();
    }
    spec.type = peek();
    ++at_;
    return spec.type == '%' ? "%" : convert(spec, argument(key));
  }

  Value argument(const std::optional<std::string>& key) {
    if (key) {
      require(args_.dict() != nullptr, "format requires a mapping");
      const Value* found = args_.dict()->find(*key);
      require(found != nullptr, "'{}'", *key);
      return *found;
    }
    const std::size_t i = next_++;
    if (!args_.is_tuple()) {
      require(i == 0, "not enough arguments for format string");
      return args_;
    }
    require(i < args_.sequence()->items.size(), "not enough arguments for format string");
    return args_.sequence()->items[i];
  }

  std::string convert(const Specification& spec, const Value& value) const {
    switch (spec.type) {
      case 's':
      case 'r': {
        std::string text = spec.type == 's' ? str(value) : repr(value);
        if (spec.precision) text = slice(Value(text), {0, *spec.precision, std::nullopt}).as_string();
        if (markup_ && !value.is_markup()) text = escape_html(text);
        return pad(spec, text);
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return convert_integer(spec, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        require(value.is_number(), "must be real number, not {}", type_name(value));
        return print(spec, "", spec.type, value.as_double());
      default:
        fail("unsupported format character '{}'", std::string(1, spec.type));
    }
  }

  static std::string convert_integer(const Specification& spec, const Value& value) {
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    require(value.is_integral() || (decimal && value.is_float()), "%{} format: a real number is required, not {}",
            std::string(1, spec.type), type_name(value));
    require(!value.is_float() || std::abs(value.as_double()) < 9e18, "an integer does not fit in 64 bits");
    const auto number = value.is_float() ? static_cast<std::int64_t>(value.as_double()) : value.as_int();
    require(decimal || number >= 0, "a negative number in base 8 or 16 cannot be formatted");
    return print(spec, "ll", decimal ? 'd' : spec.type, static_cast<long long>(number));
  }

  // The C library knows these conversions; the format handed to it is made here, of checked parts.
  template <class Number>
  static std::string print(const Specification& spec, const char* length, char type, Number number) {
    std::string format = "%" + spec.flags + std::to_string(spec.width);
    if (spec.width == 0) format = "%" + spec.flags;
    if (spec.precision) format += "." + std::to_string(*spec.precision);
    format += length;
    format += type;
    std::array<char, 3 * kMaxWidth> buffer{};
    const int bytes = std::snprintf(buffer.data(), buffer.size(), format.c_str(), number);
    return std::string(buffer.data(), std::min<std::size_t>(static_cast<std::size_t>(bytes), buffer.size() - 1));
  }

  static std::string pad(const Specification& spec, const std::string& text) {
    const std::string spaces = padding(" ", spec.width, count_characters(text));
    const bool left = spec.flags.find('-') != std::string::npos;
    return left ? text + spaces : spaces + text;
  }

  std::string_view text_;
  bool markup_;
  const Value& args_;
  std::size_t at_ = 0;
  std::size_t next_ = 0;
  std::string out_;
};

Value brace_field(std::string_view name, const Args& args, std::size_t& automatic) {
  const bool number = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (number) {
    const std::size_t i = name.empty() ? automatic++ : static_cast<std::size_t>(*parse_int(name, 10));
    require(i < args.positional.size(), "Replacement index {} out of range for positional args tuple", i);
    return args.positional[i];
  }
  require(name.find_first_of(".[") == std::string_view::npos, "unsupported format field \"{}\"", name);
  for (const auto& [key, value] : args.named) {
    if (key == name) return value;
  }
  fail("'{}'", name);
}

}  // namespace

Value format_percent(const Value& format, const Value& args) { return PercentFormatter(format, args).run(); }

std::string format_braces(std::string_view format, const Args& args) {
  std::string out;
  std::size_t automatic = 0;
  for (std::size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    const bool doubled = at + 1 < format.size() && format[at + 1] == c;
    if ((c != '{' && c != '}') || doubled) {
      append_bounded(out, format.substr(at, 1));
      at += c == '{' || c == '}' ? 1 : 0;
      continue;
    }
    require(c == '{', "Single '}}' encountered in format string");
    const std::size_t close = format.find('}', at);
    require(close != std::string_view::npos, "expected '}}' before end of string");
    std::string_view field = format.substr(at + 1, close - at - 1);
    require(field.find(':') == std::string_view::npos, "unsupported format field \"{}\"", field);
    const bool as_repr = field.ends_with("!r");
    if (as_repr || field.ends_with("!s")) field.remove_suffix(2);
    const Value value = brace_field(field, args, automatic);
    append_bounded(out, as_repr ? repr(value) : str(value));
    at = close;
  }
  return out;
}

}  // namespace lamina::jinja
