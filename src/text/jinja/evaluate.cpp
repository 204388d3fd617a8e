// SPDX-License-Identifier: Apache-2.0
// The interpreter's expressions.
#include "base/error.h"
#include "text/jinja/depth.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"
#include "text/jinja/tests.h"

namespace lamina::jinja {

Value Interpreter::evaluate(const Expr& expr) {
  const Depth depth(*this);
  line_ = expr.line;
  env_.spend(1);
  return evaluate_node(expr);
}

Value Interpreter::evaluate_node(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::Constant:
      return expr.constant;
    case ExprKind::Name:
      return look_up(expr.name);
    case ExprKind::List:
    case ExprKind::Tuple:
      return evaluate_list(expr);
    case ExprKind::Dict:
      return evaluate_dict(expr);
    case ExprKind::Attribute:
      return get_attribute(evaluate(*expr.args[0]), expr.name);
    case ExprKind::Item:
      return evaluate_item(expr);
    case ExprKind::Slice:
      return evaluate_slice(expr);
    case ExprKind::Call:
      return evaluate_call(expr);
    case ExprKind::Filter:
      return evaluate_filter(expr, nullptr);
    case ExprKind::Test:
      return evaluate_test(expr);
    case ExprKind::Negate:
    case ExprKind::Positive:
    case ExprKind::Arithmetic:
      return evaluate_arithmetic(expr);
    case ExprKind::Concat:
      return evaluate_concat(expr);
    case ExprKind::Compare:
      return evaluate_compare(expr);
    default:
      return evaluate_logic(expr);
  }
}

Value Interpreter::evaluate_logic(const Expr& expr) {
  if (expr.kind == ExprKind::Conditional) return evaluate_conditional(expr);
  Value left = evaluate(*expr.args[0]);
  if (expr.kind == ExprKind::Not) return !truthy(left);
  // Operands and targets are never evaluated themselves, so And and Or remain.
  const bool decided = truthy(left) == (expr.kind == ExprKind::Or);
  return decided ? left : evaluate(*expr.args[1]);
}

Value Interpreter::evaluate_item(const Expr& expr) {
  const Value owner = evaluate(*expr.args[0]);
  const Value key = evaluate(*expr.args[1]);
  line_ = expr.line;
  if (owner.is_string()) env_.spend_on(owner);
  return get_item(owner, key);
}

Value Interpreter::evaluate_test(const Expr& expr) {
  const Value tested = evaluate(*expr.args[0]);
  const Args args = arguments(expr);
  line_ = expr.line;
  return call_test(env_, expr.name, tested, args);
}

Value Interpreter::look_up(const std::string& name) const {
  for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
    const auto found = scope->names.find(name);
    if (found != scope->names.end()) return found->second;
  }
  return Value::undefined("'" + name + "' is undefined");
}

Value Interpreter::evaluate_list(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.args.size());
  for (const ExprPtr& arg : expr.args) items.push_back(evaluate(*arg));
  return expr.kind == ExprKind::List ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expr& expr) {
  Dict out;
  for (std::size_t i = 0; i < expr.args.size(); i += 2) {
    Value key = evaluate(*expr.args[i]);
    out.insert(std::move(key), evaluate(*expr.args[i + 1]));
  }
  return std::make_shared<const Dict>(std::move(out));
}

Value Interpreter::evaluate_slice(const Expr& expr) {
  const Value owner = evaluate(*expr.args[0]);
  const auto bound = [&](std::size_t i) -> std::optional<std::int64_t> {
    const Value value = expr.args[i] ? evaluate(*expr.args[i]) : Value();
    if (value.is_none()) return std::nullopt;
    require(value.is_integral(), "slice indices must be integers or None, not {}", type_name(value));
    return value.as_int();
  };
  SliceBounds bounds;
  bounds.start = bound(1);
  bounds.stop = bound(2);
  bounds.step = bound(3);
  line_ = expr.line;
  env_.spend_on(owner);
  return slice(owner, bounds);
}

Args Interpreter::arguments(const Expr& expr) {
  Args out;
  for (std::size_t i = 1; i < expr.args.size(); ++i) out.positional.push_back(evaluate(*expr.args[i]));
  for (const auto& [name, value] : expr.named) {
    Value evaluated = evaluate(*value);
    if (name == "*") {
      for (Value& item : iterate(evaluated)) out.positional.push_back(std::move(item));
    } else if (name == "**") {
      require(evaluated.dict() != nullptr, "argument after ** must be a mapping, not {}", type_name(evaluated));
      for (const auto& [key, item] : evaluated.dict()->entries()) out.named.emplace_back(str(key), item);
    } else {
      out.named.emplace_back(name, std::move(evaluated));
    }
  }
  env_.spend(out.positional.size() + out.named.size());
  return out;
}

Value Interpreter::evaluate_call(const Expr& expr) {
  const Value function = evaluate(*expr.args[0]);
  const Args args = arguments(expr);
  return call(function, args, expr.line);
}

Value Interpreter::call(const Value& function, const Args& args, int line) {
  line_ = line;
  if (function.is_undefined()) fail("{}", *function.undefined()->reason);
  require(function.object() != nullptr, "'{}' object is not callable", type_name(function));
  Value out = function.object()->call(env_, args);
  env_.spend_on(out);
  return out;
}

Value Interpreter::evaluate_filter(const Expr& expr, const Value* block) {
  const Depth depth(*this);
  Value input;
  if (!expr.args[0]) {
    input = *block;
  } else if (expr.args[0]->kind == ExprKind::Filter) {
    input = evaluate_filter(*expr.args[0], block);
  } else {
    input = evaluate(*expr.args[0]);
  }
  const Args args = arguments(expr);
  line_ = expr.line;
  return call_filter(env_, expr.name, input, args);
}

Value Interpreter::evaluate_arithmetic(const Expr& expr) {
  const Value left = evaluate(*expr.args[0]);
  if (expr.kind == ExprKind::Negate) return negate(left);
  if (expr.kind == ExprKind::Positive) return positive(left);
  const Value right = evaluate(*expr.args[1]);
  line_ = expr.line;
  if (expr.name == "%") env_.spend_deep(right);
  Value out = arithmetic(expr.name, left, right);
  env_.spend_on(out);
  return out;
}

Value Interpreter::evaluate_concat(const Expr& expr) {
  std::string out;
  for (const ExprPtr& arg : expr.args) {
    const Value part = evaluate(*arg);
    env_.spend_deep(part);
    append_bounded(out, str(part));
  }
  return Value(std::move(out));
}

Value Interpreter::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.args[0]);
  for (std::size_t i = 1; i < expr.args.size(); ++i) {
    const Expr& operand = *expr.args[i];
    Value right = evaluate(*operand.args[0]);
    line_ = operand.line;
    env_.spend_deep(left);
    env_.spend_deep(right);
    env_.spend_on_search(right, left);
    if (!compare(operand.name, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_conditional(const Expr& expr) {
  if (truthy(evaluate(*expr.args[1]))) return evaluate(*expr.args[0]);
  if (expr.args[2]) return evaluate(*expr.args[2]);
  return Value::undefined("the inline if-expression on line " + std::to_string(expr.line) +
                          " evaluated to false and no else section was defined.");
}

}  // namespace lamina::jinja
