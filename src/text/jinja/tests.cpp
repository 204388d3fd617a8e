// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/tests.h"

#include <map>

#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

using Test = bool (*)(const Value& value);

// Identity: of the things themselves, or of equal plain values of one type, which Python mostly shares.
bool same(const Value& a, const Value& b) {
  if (a.sequence() || b.sequence()) return a.sequence() == b.sequence();
  if (a.dict() || b.dict()) return a.dict() == b.dict();
  return type_name(a) == type_name(b) && equal(a, b);
}

bool divides(const Value& value, const Value& by) { return equal(arithmetic("%", value, by), Value(0)); }

bool is_filter(const Value& v) {
  const std::string name = str(v);
  return find_text_filter(name) || find_sequence_filter(name) || find_ordering_filter(name) || find_number_filter(name);
}

const std::map<std::string, Test, std::less<>>& plain_tests() {
  static const std::map<std::string, Test, std::less<>> tests = {
      {"boolean", [](const Value& v) { return v.is_bool(); }},
      {"callable", [](const Value& v) { return v.is_undefined() || (v.object() && v.object()->callable()); }},
      {"defined", [](const Value& v) { return !v.is_undefined(); }},
      {"escaped", [](const Value& v) { return v.is_markup(); }},
      {"even", [](const Value& v) { return divides(v, 2); }},
      {"false", [](const Value& v) { return v.is_bool() && !v.as_bool(); }},
      {"filter", is_filter},
      {"float", [](const Value& v) { return v.is_float(); }},
      {"integer", [](const Value& v) { return v.is_int(); }},
      {"iterable", [](const Value& v) { return iterable(v); }},
      {"lower", [](const Value& v) { return all_cased(str(v), CharacterClass::Lower); }},
      {"mapping", [](const Value& v) { return v.dict() != nullptr; }},
      {"none", [](const Value& v) { return v.is_none(); }},
      {"number", [](const Value& v) { return v.is_number(); }},
      {"odd", [](const Value& v) { return equal(arithmetic("%", v, 2), Value(1)); }},
      {"sequence",
       [](const Value& v) { return length(v) && (!v.sequence() || v.sequence()->kind != Sequence::Kind::View); }},
      {"string", [](const Value& v) { return v.is_string(); }},
      {"true", [](const Value& v) { return v.is_bool() && v.as_bool(); }},
      {"undefined", [](const Value& v) { return v.is_undefined(); }},
      {"upper", [](const Value& v) { return all_cased(str(v), CharacterClass::Upper); }}};
  return tests;
}

// The operator that a test stands for, or an empty name.
std::string operator_of(const std::string& test) {
  static const std::map<std::string, std::string, std::less<>> operators = {
      {"eq", "=="},         {"equalto", "=="}, {"==", "=="}, {"ne", "!="}, {"!=", "!="}, {"lt", "<"},
      {"lessthan", "<"},    {"<", "<"},        {"le", "<="}, {"<=", "<="}, {"gt", ">"},  {">", ">"},
      {"greaterthan", ">"}, {"ge", ">="},      {">=", ">="}, {"in", "in"}};
  const auto found = operators.find(test);
  return found == operators.end() ? "" : found->second;
}

}  // namespace

bool call_test(Env& env, const std::string& name, const Value& value, const Args& args) {
  const std::size_t given = args.positional.size();
  require(args.named.empty(), "the test \"{}\" takes no keyword arguments", name);
  const auto plain = plain_tests().find(name);
  if (plain != plain_tests().end()) {
    require(given == 0, "the test \"{}\" takes no arguments, {} given", name, given);
    if (name == "lower" || name == "upper") env.spend_deep(value);
    return plain->second(value);
  }
  const std::string op = operator_of(name);
  const bool known = !op.empty() || name == "sameas" || name == "divisibleby";
  require(known, "unsupported test \"{}\"", name);
  require(given == 1, "the test \"{}\" takes 1 argument, {} given", name, given);
  const Value& other = args.positional[0];
  if (name == "sameas") return same(value, other);
  if (name == "divisibleby") return divides(value, other);
  env.spend_deep(value);
  env.spend_deep(other);
  env.spend_on_search(other, value);
  return compare(op, value, other);
}

}  // namespace lamina::jinja
