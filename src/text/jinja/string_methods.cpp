// SPDX-License-Identifier: Apache-2.0
// Python's str methods.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"
#include "text/jinja/unicode.h"

namespace lamina::jinja {

namespace {

// A result of the same kind as the string that it came from.
Value like(const Value& self, std::string text) { return Value(std::move(text), self.is_markup()); }
Value like(const Value& self, std::string_view text) { return Value(text, self.is_markup()); }

Value list_like(const Value& self, const std::vector<std::string>& parts) {
  std::vector<Value> out;
  out.reserve(parts.size());
  for (const std::string& part : parts) out.push_back(like(self, part));
  return Value::list(std::move(out));
}

template <std::string_view (*Strip)(std::string_view, const std::string*)>
Value strip_method(Env&, const Value& self, const Args& args) {
  const Parameters p("strip", args, {"chars"});
  return like(self, Strip(self.as_string(), p.string_or_none(0)));
}

template <std::string (*Map)(std::string_view)>
Value map_method(Env&, const Value& self, const Args& args) {
  const Parameters p("case mapping", args, {});
  return like(self, Map(self.as_string()));
}

// The part of the text that start and stop leave, as s.find(x, start, stop) sees it.
std::string part(const std::string& text, const Parameters& p, std::size_t start) {
  if (!p.has(start) && !p.has(start + 1)) return text;
  SliceBounds bounds;
  if (p.has(start) && !p.at(start).is_none()) bounds.start = p.int_or(start, 0);
  if (p.has(start + 1) && !p.at(start + 1).is_none()) bounds.stop = p.int_or(start + 1, 0);
  return slice(Value(text), bounds).as_string();
}

template <bool AtStart>
Value affix_method(Env&, const Value& self, const Args& args) {
  const Parameters p(AtStart ? "startswith" : "endswith", args, {"affix", "start", "end"});
  const std::string text = part(self.as_string(), p, 1);
  const auto matches = [&](const Value& affix) {
    if (affix.is_undefined()) fail("{}", *affix.undefined()->reason);
    require(affix.is_string(), "{} first arg must be str or a tuple of str, not {}",
            AtStart ? "startswith" : "endswith", type_name(affix));
    return AtStart ? text.starts_with(affix.as_string()) : text.ends_with(affix.as_string());
  };
  if (!p.at(0).is_tuple()) return matches(p.at(0));
  const auto& affixes = p.at(0).sequence()->items;
  return std::any_of(affixes.begin(), affixes.end(), matches);
}

template <bool FromRight>
Value split_method(Env&, const Value& self, const Args& args) {
  const Parameters p("split", args, {"sep", "maxsplit"});
  const std::string* separator = p.string_or_none(0);
  const std::int64_t most = p.int_or(1, -1);
  return list_like(
      self, FromRight ? split_right(self.as_string(), separator, most) : split_left(self.as_string(), separator, most));
}

Value splitlines(Env&, const Value& self, const Args& args) {
  const Parameters p("splitlines", args, {"keepends"});
  return list_like(self, split_lines(self.as_string(), p.bool_or(0, false)));
}

template <bool FromRight>
Value partition(Env&, const Value& self, const Args& args) {
  const Parameters p("partition", args, {"sep"});
  const std::string &text = self.as_string(), &separator = p.string_at(0);
  require(!separator.empty(), "empty separator");
  const std::size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos) {
    const Value empty = like(self, std::string());
    return FromRight ? Value::tuple({empty, empty, self}) : Value::tuple({self, empty, empty});
  }
  return Value::tuple(
      {like(self, text.substr(0, at)), like(self, separator), like(self, text.substr(at + separator.size()))});
}

Value replace(Env&, const Value& self, const Args& args) {
  const Parameters p("replace", args, {"old", "new", "count"});
  const std::string& with = p.string_at(1);
  const bool escape = self.is_markup() && !p.at(1).is_markup();
  return like(self, replace_all(self.as_string(), p.string_at(0), escape ? escape_html(with) : with, p.int_or(2, -1)));
}

// The index in characters of a match, or -1.
std::int64_t find_index(const Value& self, const Args& args, bool from_right) {
  const Parameters p("find", args, {"sub", "start", "end"});
  const std::string text = part(self.as_string(), p, 1);
  const std::size_t at = from_right ? text.rfind(p.string_at(0)) : text.find(p.string_at(0));
  if (at == std::string::npos) return -1;
  std::int64_t skipped = p.has(1) && !p.at(1).is_none() ? p.int_or(1, 0) : 0;
  if (skipped < 0) skipped = std::max<std::int64_t>(0, skipped + static_cast<std::int64_t>(*length(self)));
  return skipped + static_cast<std::int64_t>(count_characters(std::string_view(text).substr(0, at)));
}

template <bool FromRight>
Value find(Env&, const Value& self, const Args& args) {
  return find_index(self, args, FromRight);
}

template <bool FromRight>
Value index(Env&, const Value& self, const Args& args) {
  const std::int64_t at = find_index(self, args, FromRight);
  require(at >= 0, "substring not found");
  return at;
}

Value count(Env&, const Value& self, const Args& args) {
  const Parameters p("count", args, {"sub", "start", "end"});
  const std::string text = part(self.as_string(), p, 1);
  const std::string& wanted = p.string_at(0);
  if (wanted.empty()) return count_characters(text) + 1;
  std::int64_t found = 0;
  for (std::size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + wanted.size())) ++found;
  return found;
}

Value join(Env& env, const Value& self, const Args& args) {
  const Parameters p("join", args, {"iterable"});
  std::string out;
  bool first = true;
  for (const Value& item : iterate(p.at(0))) {
    require(item.is_string(), "sequence item: expected str instance, {} found", type_name(item));
    if (!first) append_bounded(out, self.as_string());
    const bool escape = self.is_markup() && !item.is_markup();
    append_bounded(out, escape ? escape_html(item.as_string()) : item.as_string());
    env.spend_on(item);
    first = false;
  }
  return like(self, std::move(out));
}

Value format(Env&, const Value& self, const Args& args) { return like(self, format_braces(self.as_string(), args)); }

template <CharacterClass Wanted>
Value all_in(Env&, const Value& self, const Args& args) {
  const Parameters p("character test", args, {});
  const auto parts = characters(self.as_string());
  return !parts.empty() && std::all_of(parts.begin(), parts.end(), [](auto c) { return is_in(Wanted, c); });
}

Value isalnum(Env&, const Value& self, const Args& args) {
  const Parameters p("isalnum", args, {});
  const auto parts = characters(self.as_string());
  return !parts.empty() && std::all_of(parts.begin(), parts.end(), [](auto c) {
    return is_in(CharacterClass::Alphabetic, c) || is_in(CharacterClass::Numeric, c);
  });
}

Value isspace(Env&, const Value& self, const Args& args) {
  const Parameters p("isspace", args, {});
  const auto parts = characters(self.as_string());
  return !parts.empty() && std::all_of(parts.begin(), parts.end(), [](auto c) { return is_space(c); });
}

template <CharacterClass Wanted>
Value is_case(Env&, const Value& self, const Args& args) {
  const Parameters p("case test", args, {});
  return all_cased(self.as_string(), Wanted);
}

Value removeprefix(Env&, const Value& self, const Args& args) {
  const Parameters p("removeprefix", args, {"prefix"});
  const bool found = self.as_string().starts_with(p.string_at(0));
  return found ? like(self, self.as_string().substr(p.string_at(0).size())) : self;
}

Value removesuffix(Env&, const Value& self, const Args& args) {
  const Parameters p("removesuffix", args, {"suffix"});
  const bool found = self.as_string().ends_with(p.string_at(0));
  return found ? like(self, self.as_string().substr(0, self.as_string().size() - p.string_at(0).size())) : self;
}

Value zfill(Env&, const Value& self, const Args& args) {
  const Parameters p("zfill", args, {"width"});
  const std::string& text = self.as_string();
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  const std::string zeros = padding("0", p.int_or(0, 0), count_characters(text));
  return like(self, (sign ? text.substr(0, 1) : "") + zeros + text.substr(sign ? 1 : 0));
}

template <bool Left>
Value justify(Env&, const Value& self, const Args& args) {
  const Parameters p("justify", args, {"width", "fillchar"});
  const std::string fill = p.has(1) ? p.string_at(1) : " ";
  const std::string pad = padding(fill, p.int_or(0, 0), count_characters(self.as_string()));
  return like(self, Left ? self.as_string() + pad : pad + self.as_string());
}

}  // namespace

MethodFunction find_string_method(const std::string& name) {
  static const std::map<std::string, MethodFunction, std::less<>> methods = {
      {"capitalize", map_method<jinja::capitalize>},
      {"count", count},
      {"endswith", affix_method<false>},
      {"find", find<false>},
      {"format", format},
      {"index", index<false>},
      {"isalnum", isalnum},
      {"isalpha", all_in<CharacterClass::Alphabetic>},
      {"isdecimal", all_in<CharacterClass::Decimal>},
      {"isdigit", all_in<CharacterClass::Digit>},
      {"islower", is_case<CharacterClass::Lower>},
      {"isnumeric", all_in<CharacterClass::Numeric>},
      {"isspace", isspace},
      {"isupper", is_case<CharacterClass::Upper>},
      {"join", join},
      {"ljust", justify<true>},
      {"lower", map_method<jinja::lower>},
      {"lstrip", strip_method<strip_left>},
      {"partition", partition<false>},
      {"removeprefix", removeprefix},
      {"removesuffix", removesuffix},
      {"replace", replace},
      {"rfind", find<true>},
      {"rindex", index<true>},
      {"rjust", justify<false>},
      {"rpartition", partition<true>},
      {"rsplit", split_method<true>},
      {"rstrip", strip_method<strip_right>},
      {"split", split_method<false>},
      {"splitlines", splitlines},
      {"startswith", affix_method<true>},
      {"strip", strip_method<jinja::strip>},
      {"title", map_method<jinja::title>},
      {"upper", map_method<jinja::upper>},
      {"zfill", zfill}};
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace lamina::jinja
