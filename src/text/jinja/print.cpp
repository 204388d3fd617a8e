// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/print.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

void append_checked(std::string& out, std::string_view more) {
  require(out.size() + more.size() <= kMaxStringBytes, "a string of more than {} bytes", kMaxStringBytes);
  out += more;
}

std::string escape_of(std::int32_t code) {
  if (code < 0) return fmt::format("\\x{:02x}", -code);
  if (code < 0x100) return fmt::format("\\x{:02x}", code);
  if (code < 0x10000) return fmt::format("\\u{:04x}", code);
  return fmt::format("\\U{:08x}", code);
}

std::string repr_string(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos;
  const char quote = single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::string_view character : characters(text)) {
    const char c = character[0];
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += is_printable(character) ? std::string(character) : escape_of(code_point(character));
    }
  }
  return out + quote;
}

void append_repr(std::string& out, const Value& value);

void append_items(std::string& out, const std::vector<Value>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, items[i]);
  }
}

void append_sequence(std::string& out, const Sequence& sequence) {
  switch (sequence.kind) {
    case Sequence::Kind::Range:
      out += sequence.label;
      return;
    case Sequence::Kind::Tuple:
      out += '(';
      append_items(out, sequence.items);
      out += sequence.items.size() == 1 ? ",)" : ")";
      return;
    case Sequence::Kind::List:
    case Sequence::Kind::View:
      const bool view = sequence.kind == Sequence::Kind::View;
      out += view ? sequence.label + "([" : "[";
      append_items(out, sequence.items);
      out += view ? "])" : "]";
  }
}

void append_dict(std::string& out, const Dict& dict) {
  out += '{';
  for (std::size_t i = 0; i < dict.entries().size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, dict.entries()[i].first);
    out += ": ";
    append_repr(out, dict.entries()[i].second);
  }
  out += '}';
}

void append_repr(std::string& out, const Value& value) {
  if (value.is_string()) {
    const std::string quoted = repr_string(value.as_string());
    append_checked(out, value.is_markup() ? "Markup(" + quoted + ")" : quoted);
  } else if (value.sequence()) {
    append_sequence(out, *value.sequence());
  } else if (value.dict()) {
    append_dict(out, *value.dict());
  } else {
    append_checked(out, value.is_undefined() ? "Undefined" : str(value));
  }
}

void append_json_string(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  for (std::string_view character : characters(text)) {
    const auto c = static_cast<unsigned char>(character[0]);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        const std::int32_t code = std::abs(code_point(character));
        if (code >= 0x10000 && ascii) {
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF));
        } else if (code < 0x20 || (ascii && code > 0x7E)) {
          out += fmt::format("\\u{:04x}", code);
        } else {
          append_checked(out, character);
        }
    }
  }
  out += '"';
}

std::string json_number(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return repr(number);
}

std::string json_key(const Value& key) {
  if (key.is_string()) return key.as_string();
  if (key.is_none()) return "null";
  if (key.is_bool()) return key.as_bool() ? "true" : "false";
  require(key.is_number(), "keys must be str, int, float, bool or None, not {}", type_name(key));
  return key.is_float() ? json_number(key.as_double()) : std::to_string(key.as_int());
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value) {
    if (value.is_string()) {
      append_json_string(out, value.as_string(), style_.ascii);
    } else if (value.is_list() || value.is_tuple()) {
      write_list(value.sequence()->items);
    } else if (value.dict()) {
      write_dict(*value.dict());
    } else if (value.is_float()) {
      append_checked(out, json_number(value.as_double()));
    } else {
      require(value.is_none() || value.is_integral(), "Object of type {} is not JSON serializable", type_name(value));
      append_checked(out, json_key(value));
    }
  }

  std::string out;

 private:
  void write_list(const std::vector<Value>& items) {
    open('[');
    for (std::size_t i = 0; i < items.size(); ++i) {
      separate(i == 0);
      write(items[i]);
    }
    close(']', items.empty());
  }

  void write_dict(const Dict& dict) {
    auto entries = dict.entries();
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    }
    open('{');
    for (std::size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      append_json_string(out, json_key(entries[i].first), style_.ascii);
      out += style_.key_separator;
      write(entries[i].second);
    }
    close('}', entries.empty());
  }

  void open(char bracket) {
    append_checked(out, std::string_view(&bracket, 1));
    ++level_;
  }

  void close(char bracket, bool empty) {
    --level_;
    if (!empty) new_line();
    out += bracket;
  }

  void separate(bool first) {
    if (!first) out += style_.item_separator;
    new_line();
  }

  void new_line() {
    if (!style_.indent) return;
    out += '\n';
    for (int i = 0; i < level_; ++i) append_checked(out, *style_.indent);
  }

  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto scientific = std::to_chars(buffer.begin(), buffer.end(), number, std::chars_format::scientific);
  std::string shortest(buffer.begin(), scientific.ptr);
  const std::size_t e = shortest.find('e');
  const int exponent = std::stoi(shortest.substr(e + 1));
  // Python's repr: as few digits as identify the number, with an exponent outside 1e-4 .. 1e16.
  if (exponent < -4 || exponent >= 16) return shortest;
  const auto fixed = std::to_chars(buffer.begin(), buffer.end(), number, std::chars_format::fixed);
  std::string out(buffer.begin(), fixed.ptr);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string str(const Value& value) {
  if (value.is_string()) return value.as_string();
  if (value.is_undefined()) return {};
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.as_bool() ? "True" : "False";
  if (value.is_int()) return std::to_string(value.as_int());
  if (value.is_float()) return repr(value.as_double());
  if (value.object()) return value.object()->repr();
  if (value.iterator()) return "<generator object>";
  return repr(value);
}

std::string repr(const Value& value) {
  std::string out;
  append_repr(out, value);
  return out;
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value);
  return std::move(writer.out);
}

}  // namespace lamina::jinja
