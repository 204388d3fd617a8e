// SPDX-License-Identifier: Apache-2.0
// Filters that make text.
#include <map>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

// The text of any value; Markup stays Markup.
Value as_text(const Value& value) { return value.is_string() ? value : Value(str(value)); }

template <std::string (*Map)(std::string_view)>
Value map_case(Env&, const Value& input, const Args& args) {
  const Parameters p("case filter", args, {});
  const Value text = as_text(input);
  return Value(Map(text.as_string()), text.is_markup());
}

// Jinja's own title: words begin after blanks, hyphens and opening brackets.
std::string title_words(std::string_view text) {
  std::string out;
  bool begins = true;
  for (std::string_view character : characters(text)) {
    const bool separates = is_space(character) || std::string_view("-({[<").find(character) != std::string_view::npos;
    out += separates ? std::string(character) : begins ? upper(character) : lower(character);
    begins = separates;
  }
  return out;
}

Value string_filter(Env&, const Value& input, const Args& args) {
  const Parameters p("string", args, {});
  return as_text(input);
}

Value trim(Env&, const Value& input, const Args& args) {
  const Parameters p("trim", args, {"chars"});
  const Value text = as_text(input);
  return Value(strip(text.as_string(), p.string_or_none(0)), text.is_markup());
}

Value replace(Env&, const Value& input, const Args& args) {
  const Parameters p("replace", args, {"old", "new", "count"});
  const std::int64_t most = p.has(2) && !p.at(2).is_none() ? p.int_or(2, -1) : -1;
  return Value(replace_all(str(input), str(p.at(0)), str(p.at(1)), most));
}

Value escape(Env&, const Value& input, const Args& args) {
  const Parameters p("escape", args, {});
  return input.is_markup() ? input : Value(escape_html(str(input)), true);
}

Value safe(Env&, const Value& input, const Args& args) {
  const Parameters p("safe", args, {});
  return Value(str(input), true);
}

Value join(Env& env, const Value& input, const Args& args) {
  const Parameters p("join", args, {"d", "attribute"});
  const std::string separator = p.has(0) ? str(p.at(0)) : "";
  std::string out;
  bool first = true;
  for (const Value& item : iterate(input)) {
    if (!first) append_bounded(out, separator);
    const std::string text = str(p.has(1) && !p.at(1).is_none() ? get_path(item, p.at(1)) : item);
    env.spend(1 + text.size() / 64);
    append_bounded(out, text);
    first = false;
  }
  return Value(std::move(out));
}

Value indent(Env&, const Value& input, const Args& args) {
  const Parameters p("indent", args, {"width", "first", "blank"});
  require(input.is_string(), "the indent filter needs a string, not {}", type_name(input));
  const bool by_text = p.has(0) && p.at(0).is_string();
  const std::string margin = by_text ? p.at(0).as_string() : padding(" ", p.int_or(0, 4), 0);
  const bool blank = p.bool_or(2, false);
  std::string out = p.bool_or(1, false) ? margin : "";
  bool first = true;
  // The added newline makes text that ends in one keep it.
  for (const std::string& line : split_lines(input.as_string() + "\n", false)) {
    if (!first) append_bounded(out, "\n");
    if (!first && (blank || !line.empty())) append_bounded(out, margin);
    append_bounded(out, line);
    first = false;
  }
  return Value(std::move(out), input.is_markup());
}

Value tojson(Env&, const Value& input, const Args& args) {
  const Parameters p("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = p.bool_or(0, false);
  style.sort_keys = p.bool_or(3, false);
  if (p.has(1) && !p.at(1).is_none()) {
    style.indent = p.at(1).is_string() ? p.at(1).as_string() : padding(" ", p.int_or(1, 0), 0);
    style.item_separator = ",";
  }
  if (p.has(2) && !p.at(2).is_none()) {
    const std::vector<Value> separators = iterate(p.at(2));
    require(separators.size() == 2 && separators[0].is_string() && separators[1].is_string(),
            "tojson's separators must be two strings");
    style.item_separator = separators[0].as_string();
    style.key_separator = separators[1].as_string();
  }
  return Value(to_json(input, style));
}

Value format(Env&, const Value& input, const Args& args) {
  require(args.positional.empty() || args.named.empty(),
          "can't handle positional and keyword arguments at the same time");
  if (args.named.empty()) return format_percent(as_text(input), Value::tuple(args.positional));
  Dict named;
  for (const auto& [name, value] : args.named) named.insert(Value(name), value);
  return format_percent(as_text(input), Value(std::make_shared<const Dict>(std::move(named))));
}

Value wordcount(Env&, const Value& input, const Args& args) {
  const Parameters p("wordcount", args, {});
  std::int64_t words = 0;
  bool inside = false;
  const std::string text = str(input);
  for (std::string_view character : characters(text)) {
    const bool word =
        character == "_" || is_in(CharacterClass::Alphabetic, character) || is_in(CharacterClass::Numeric, character);
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return words;
}

Value center(Env&, const Value& input, const Args& args) {
  const Parameters p("center", args, {"width"});
  const Value text = as_text(input);
  const std::size_t size = count_characters(text.as_string());
  const std::int64_t width = p.int_or(0, 80);
  const std::string both = padding(" ", width, size);
  const std::size_t left = both.size() / 2 + (both.size() & static_cast<std::size_t>(width) & 1);
  return Value(both.substr(0, left) + text.as_string() + both.substr(left), text.is_markup());
}

Value truncate(Env&, const Value& input, const Args& args) {
  const Parameters p("truncate", args, {"length", "killwords", "end", "leeway"});
  require(input.is_string(), "the truncate filter needs a string, not {}", type_name(input));
  const std::string end = p.has(2) ? p.string_at(2) : "...";
  const std::int64_t most = p.int_or(0, 255);
  const auto end_characters = static_cast<std::int64_t>(count_characters(end));
  require(most >= end_characters, "expected length >= {}, got {}", end_characters, most);
  if (static_cast<std::int64_t>(*length(input)) <= most + p.int_or(3, 5)) return input;
  std::string kept = slice(input, {std::nullopt, most - end_characters, std::nullopt}).as_string();
  if (!p.bool_or(1, false)) kept = kept.substr(0, kept.rfind(' '));
  return Value(kept + end, input.is_markup());
}

}  // namespace

const Filter* find_text_filter(const std::string& name) {
  static const std::map<std::string, Filter, std::less<>> filters = {
      {"capitalize", {map_case<capitalize>, FilterCost::Deep}},
      {"center", {center, FilterCost::Deep}},
      {"e", {escape, FilterCost::Deep}},
      {"escape", {escape, FilterCost::Deep}},
      {"format", {format, FilterCost::Deep}},
      {"indent", {indent, FilterCost::Deep}},
      {"join", {join, FilterCost::Deep}},
      {"lower", {map_case<lower>, FilterCost::Deep}},
      {"replace", {replace, FilterCost::Deep}},
      {"safe", {safe, FilterCost::Deep}},
      {"string", {string_filter, FilterCost::Deep}},
      {"title", {map_case<title_words>, FilterCost::Deep}},
      {"tojson", {tojson, FilterCost::Deep}},
      {"trim", {trim, FilterCost::Deep}},
      {"truncate", {truncate, FilterCost::Deep}},
      {"upper", {map_case<upper>, FilterCost::Deep}},
      {"wordcount", {wordcount, FilterCost::Deep}}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : &found->second;
}

}  // namespace lamina::jinja
