// SPDX-License-Identifier: Apache-2.0
// The grammar of spec strings, without their meaning: terms joined by "+", blanks free between the parts.
//
//   spec  = term { "+" term }
//   term  = name [ "(" [ arg { "," arg } ] ")" ]
//   arg   = [ key "=" ] value
//   value = any characters but "," and ")" outside of brackets that it opened, or "…" with \" and \\ inside
//   key   = letters, digits, "_" and "-"
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

struct Argument {
  std::string key;  // empty: a bare value
  std::string value;
};

// Errors name the term, what was found and what was expected.
struct Term {
  std::string name;
  std::vector<Argument> arguments;

  // Refuses bare values and every key that is not listed or comes twice. No keys: the term takes no arguments.
  void expect_keys(std::initializer_list<std::string_view> keys) const;
  // The same with bare words beside the keys, each at most once.
  void expect_keys_and_flags(std::initializer_list<std::string_view> keys,
                             std::initializer_list<std::string_view> flags) const;
  bool flag(std::string_view word) const;
  // The only argument, a bare value; `what` says what it is ("a number of tokens").
  const std::string& only_value(std::string_view what) const;
  // One bare value, and keys of these.
  void expect_value_and_keys(std::initializer_list<std::string_view> keys) const;
  const std::string& bare(std::string_view what) const;  // the bare value
  // Null when absent.
  const std::string* find(std::string_view key) const;
  // An integer argument; `fallback` when absent.
  int integer(std::string_view key, int min, int max, int fallback) const;
  // A decimal number, not inf or nan.
  double number(std::string_view key, double min, double max, double fallback) const;
  // One of these words; empty when absent.
  std::string_view choice(std::string_view key, std::initializer_list<std::string_view> words) const;
};

std::vector<Term> parse_terms(std::string_view spec);

// Error unless `text` is a decimal integer in [min, max]; `what` names it in the message.
int parse_integer(std::string_view what, std::string_view text, int min, int max);

// A value as it is printed into a spec: in quotes where the grammar needs or a reader wants them.
std::string quoted(std::string_view value);

// "name(a,b)", or "name" without arguments.
std::string print_term(std::string_view name, const std::vector<std::string>& arguments);

// At most one short line of a text that may hold anything, for error messages.
std::string excerpt(std::string_view text);

}  // namespace lamina
