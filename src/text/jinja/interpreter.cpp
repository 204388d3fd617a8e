// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/interpreter.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/depth.h"
#include "text/jinja/globals.h"
#include "text/jinja/objects.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/syntax_error.h"

namespace lamina::jinja {

namespace {

// Knows its scope without owning it: the scope holds the macro.
class Macro : public Object {
 public:
  Macro(Interpreter& interpreter, const Stmt& definition, std::weak_ptr<Scope> scope)
      : interpreter_(interpreter), definition_(definition), scope_(std::move(scope)) {}
  std::string type_name() const override { return "Macro"; }
  std::string repr() const override { return "<Macro '" + definition_.text + "'>"; }
  bool callable() const override { return true; }
  Value call(Env&, const Args& args) override {
    const auto scope = scope_.lock();
    require(scope != nullptr, "the macro \"{}\" is called outside the block that defines it", definition_.text);
    return interpreter_.call_macro(definition_, scope, args);
  }

 private:
  Interpreter& interpreter_;
  const Stmt& definition_;
  std::weak_ptr<Scope> scope_;
};

Value macro_value(Interpreter& interpreter, const Stmt& definition, const std::shared_ptr<Scope>& scope) {
  return Value(std::static_pointer_cast<Object>(std::make_shared<Macro>(interpreter, definition, scope)));
}

}  // namespace

Interpreter::Interpreter(const Variables& variables, const Limits& limits, std::chrono::system_clock::time_point now)
    : env_(limits, now), limits_(limits), scope_(std::make_shared<Scope>()) {
  for (auto& [name, value] : globals()) scope_->names[name] = std::move(value);
  for (const auto& [name, value] : variables) scope_->names[name] = value;
}

std::string Interpreter::run(const Body& body) {
  std::string out;
  out_ = &out;
  try {
    execute(body);
  } catch (const Error& error) {
    fail_at(line_, "{}", error.what());
  }
  return out;
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const Stmt& stmt : body) {
    const Flow flow = execute(stmt);
    if (flow != Flow::Normal) return flow;
  }
  return Flow::Normal;
}

Interpreter::Flow Interpreter::execute(const Stmt& stmt) {
  const Depth depth(*this);
  line_ = stmt.line;
  env_.spend(1);
  switch (stmt.kind) {
    case StmtKind::Text:
      print(stmt.text);
      break;
    case StmtKind::Print:
      for (const ExprPtr& value : stmt.values) print_value(evaluate(*value));
      break;
    case StmtKind::If:
      return execute_if(stmt);
    case StmtKind::For:
      return execute_for(stmt);
    case StmtKind::Set:
      assign(*stmt.target, evaluate(*stmt.value));
      break;
    case StmtKind::SetBlock:
      execute_set_block(stmt);
      break;
    case StmtKind::Macro:
      scope_->names[stmt.text] = macro_value(*this, stmt, scope_);
      break;
    case StmtKind::CallBlock:
      execute_call_block(stmt);
      break;
    case StmtKind::FilterBlock: {
      const Inside inside(*this);
      const Value text = Value(capture(stmt.body));
      print_value(evaluate_filter(*stmt.value, &text));
      break;
    }
    case StmtKind::With:
      execute_with(stmt);
      break;
    case StmtKind::Generation:
      print(capture(stmt.body));
      break;
    case StmtKind::Break:
      return Flow::Break;
    case StmtKind::Continue:
      return Flow::Continue;
  }
  return Flow::Normal;
}

Interpreter::Flow Interpreter::execute_if(const Stmt& stmt) {
  for (const Branch& branch : stmt.branches) {
    if (truthy(evaluate(*branch.test))) return execute(branch.body);
  }
  return execute(stmt.else_body);
}

// What the loop walks, after its `if`.
std::vector<Value> Interpreter::loop_items(const Stmt& stmt) {
  std::vector<Value> items = iterate(evaluate(*stmt.value));
  env_.spend(items.size());
  if (!stmt.test) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    const Inside inside(*this);
    assign(*stmt.target, item);
    if (truthy(evaluate(*stmt.test))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_for(const Stmt& stmt) {
  const auto loop = std::make_shared<Loop>(loop_items(stmt));
  const Value loop_value(std::static_pointer_cast<Object>(loop));
  // However the loop is left, nothing stays in it: it may hold what holds it.
  const std::shared_ptr<void> cleared(nullptr, [&](void*) { loop->clear(); });
  const std::size_t size = loop->items().size();
  for (std::size_t i = 0; i < size; ++i) {
    const Inside inside(*this);
    loop->move_to(i);
    scope_->names["loop"] = loop_value;
    assign(*stmt.target, loop->items()[i]);
    if (execute(stmt.body) == Flow::Break) return Flow::Normal;
  }
  if (size > 0) return Flow::Normal;
  const Inside inside(*this);
  return execute(stmt.else_body);
}

void Interpreter::execute_set_block(const Stmt& stmt) {
  Value text = Value(capture(stmt.body));
  if (stmt.value) text = evaluate_filter(*stmt.value, &text);
  assign(*stmt.target, text);
}

void Interpreter::execute_with(const Stmt& stmt) {
  std::vector<Value> values;  // all evaluated outside
  for (const Binding& binding : stmt.bindings) values.push_back(evaluate(*binding.value));
  const Inside inside(*this);
  for (std::size_t i = 0; i < values.size(); ++i) assign(*stmt.bindings[i].target, values[i]);
  execute(stmt.body);
}

void Interpreter::execute_call_block(const Stmt& stmt) {
  const Value function = evaluate(*stmt.value->args[0]);
  Args args = arguments(*stmt.value);
  args.named.emplace_back("caller", macro_value(*this, stmt, scope_));
  print_value(call(function, args, stmt.line));
}

std::string Interpreter::capture(const Body& body) {
  const Inside inside(*this);
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  const std::shared_ptr<void> restored(nullptr, [&](void*) { out_ = outer; });
  execute(body);
  return text;
}

void Interpreter::print_value(const Value& value) {
  env_.spend_deep(value);
  print(str(value));
}

void Interpreter::print(std::string_view text) {
  require(out_->size() + text.size() <= limits_.output_bytes, "the output is longer than {} bytes",
          limits_.output_bytes);
  env_.spend(text.size() / 64);
  *out_ += text;
}

void Interpreter::assign(const Expr& target, const Value& value) {
  if (target.kind == ExprKind::Tuple) return assign_all(target.args, value);
  if (target.kind == ExprKind::Name) {
    scope_->names[target.name] = value;
    return;
  }
  const Value owner = look_up(target.name);
  auto* object = dynamic_cast<Namespace*>(owner.object());
  require(object != nullptr, "cannot assign attribute on non-namespace object");
  object->set(target.constant.as_string(), value);
}

void Interpreter::assign_all(const std::vector<ExprPtr>& targets, const Value& value) {
  require(iterable(value), "cannot unpack non-iterable {} object", type_name(value));
  const std::vector<Value> items = iterate(value);
  require(items.size() <= targets.size(), "too many values to unpack (expected {})", targets.size());
  require(items.size() == targets.size(), "not enough values to unpack (expected {}, got {})", targets.size(),
          items.size());
  for (std::size_t i = 0; i < items.size(); ++i) assign(*targets[i], items[i]);
}

Value Interpreter::call_macro(const Stmt& macro, const std::shared_ptr<Scope>& defined_in, const Args& args) {
  const Inside inside(*this, defined_in);
  bind_arguments(macro, args);
  return Value(capture(macro.body));
}

void Interpreter::bind_arguments(const Stmt& macro, const Args& args) {
  const std::size_t parameters = macro.bindings.size();
  std::vector<std::pair<std::string, Value>> named = args.named;
  const auto take = [&](const std::string& name) -> std::optional<Value> {
    const auto found = std::find_if(named.begin(), named.end(), [&](const auto& arg) { return arg.first == name; });
    if (found == named.end()) return std::nullopt;
    Value value = std::move(found->second);
    named.erase(found);
    return value;
  };
  for (std::size_t i = 0; i < parameters; ++i) {
    const Binding& parameter = macro.bindings[i];
    const std::string& name = parameter.target->name;
    std::optional<Value> given = i < args.positional.size() ? args.positional[i] : take(name);
    if (!given && parameter.value) given = evaluate(*parameter.value);
    scope_->names[name] = given ? *given : Value::undefined("parameter '" + name + "' was not provided");
  }
  if (macro.uses.caller && !scope_->names.count("caller")) {
    scope_->names["caller"] = take("caller").value_or(Value::undefined("No caller defined"));
  }
  if (macro.uses.kwargs) {
    Dict rest;
    for (const auto& [name, value] : named) rest.insert(Value(name), value);
    scope_->names["kwargs"] = std::make_shared<const Dict>(std::move(rest));
  } else if (!named.empty()) {
    fail("macro '{}' takes no keyword argument '{}'", macro.text, named[0].first);
  }
  if (macro.uses.varargs) {
    const std::size_t used = std::min(parameters, args.positional.size());
    scope_->names["varargs"] =
        Value::tuple({args.positional.begin() + static_cast<std::ptrdiff_t>(used), args.positional.end()});
  } else {
    require(args.positional.size() <= parameters, "macro '{}' takes not more than {} argument(s)", macro.text,
            parameters);
  }
}

}  // namespace lamina::jinja
