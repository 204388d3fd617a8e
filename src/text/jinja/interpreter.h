// SPDX-License-Identifier: Apache-2.0
// Runs a syntax tree: statements in interpreter.cpp, expressions in evaluate.cpp. Scopes follow Jinja: loops, macros,
// with, filter, call and set blocks open one, if does not, and a set inside one ends with it.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace lamina::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;
  std::unordered_map<std::string, Value> names;
};

class Interpreter {
 public:
  using Variables = std::vector<std::pair<std::string, Value>>;
  Interpreter(const Variables& variables, const Limits& limits, std::chrono::system_clock::time_point now);

  std::string run(const Body& body);  // throws Error that names the line; once only

  // Calls a macro: binds its arguments in a new scope inside the one where it was defined.
  Value call_macro(const Stmt& macro, const std::shared_ptr<Scope>& defined_in, const Args& args);

 private:
  enum class Flow { Normal, Break, Continue };
  class Depth;
  class Inside;

  Flow execute(const Body& body);
  Flow execute(const Stmt& stmt);
  Flow execute_if(const Stmt& stmt);
  Flow execute_for(const Stmt& stmt);
  std::vector<Value> loop_items(const Stmt& stmt);
  void execute_set_block(const Stmt& stmt);
  void execute_with(const Stmt& stmt);
  void execute_call_block(const Stmt& stmt);
  std::string capture(const Body& body);  // in a scope of its own
  void print_value(const Value& value);
  void print(std::string_view text);
  void assign(const Expr& target, const Value& value);
  void assign_all(const std::vector<ExprPtr>& targets, const Value& value);
  void bind_arguments(const Stmt& macro, const Args& args);

  Value evaluate(const Expr& expr);
  Value evaluate_node(const Expr& expr);
  Value look_up(const std::string& name) const;
  Value evaluate_list(const Expr& expr);
  Value evaluate_dict(const Expr& expr);
  Value evaluate_logic(const Expr& expr);
  Value evaluate_item(const Expr& expr);
  Value evaluate_test(const Expr& expr);
  Value evaluate_slice(const Expr& expr);
  Value evaluate_call(const Expr& expr);
  Value call(const Value& function, const Args& args, int line);
  Value evaluate_filter(const Expr& expr, const Value* block);  // block: what a filter block holds
  Value evaluate_arithmetic(const Expr& expr);
  Value evaluate_concat(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_conditional(const Expr& expr);
  Args arguments(const Expr& expr);

  Env env_;
  const Limits limits_;
  std::shared_ptr<Scope> scope_;
  std::string* out_ = nullptr;
  int line_ = 0;
  int depth_ = 0;
};

}  // namespace lamina::jinja
