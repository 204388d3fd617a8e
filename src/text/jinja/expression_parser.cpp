// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "text/jinja/make_expr.h"
#include "text/jinja/strings.h"

namespace lamina::jinja {

namespace {

ExprPtr constant(Value value, int line) {
  ExprPtr node = make_expr(ExprKind::Constant, line);
  node->constant = std::move(value);
  return node;
}

bool is_compare_operator(const Token& token) {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  return token.kind == TokenKind::Operator &&
         std::find(std::begin(kOperators), std::end(kOperators), token.text) != std::end(kOperators);
}

}  // namespace

ExprPtr ExpressionParser::conditional() {
  const Nesting nesting(*this);
  const int line = tokens_.line();
  ExprPtr node = or_expression();
  while (tokens_.skip_name("if")) {
    ExprPtr condition = or_expression();
    ExprPtr otherwise = tokens_.skip_name("else") ? conditional() : nullptr;
    node = make_expr(ExprKind::Conditional, line, nodes(std::move(node), std::move(condition), std::move(otherwise)));
  }
  return node;
}

ExprPtr ExpressionParser::or_expression() {
  ExprPtr node = and_expression();
  for (int line = tokens_.line(); tokens_.skip_name("or"); line = tokens_.line()) {
    ExprPtr right = and_expression();
    node = make_expr(ExprKind::Or, line, nodes(std::move(node), std::move(right)));
  }
  return node;
}

ExprPtr ExpressionParser::and_expression() {
  ExprPtr node = not_expression();
  for (int line = tokens_.line(); tokens_.skip_name("and"); line = tokens_.line()) {
    ExprPtr right = not_expression();
    node = make_expr(ExprKind::And, line, nodes(std::move(node), std::move(right)));
  }
  return node;
}

ExprPtr ExpressionParser::not_expression() {
  if (!tokens_.is_name("not")) return comparison();
  const Nesting nesting(*this);
  const int line = tokens_.next().line;
  return make_expr(ExprKind::Not, line, nodes(not_expression()));
}

ExprPtr ExpressionParser::comparison() {
  const int line = tokens_.line();
  std::vector<ExprPtr> parts = nodes(sum());
  while (true) {
    const int operator_line = tokens_.line();
    std::string name;
    if (is_compare_operator(tokens_.current())) {
      name = tokens_.next().text;
    } else if (tokens_.skip_name("in")) {
      name = "in";
    } else if (tokens_.is_name("not") && tokens_.ahead().kind == TokenKind::Name && tokens_.ahead().text == "in") {
      tokens_.next();
      tokens_.next();
      name = "not in";
    } else {
      break;
    }
    parts.push_back(make_expr(ExprKind::Operand, operator_line, nodes(sum()), std::move(name)));
  }
  return parts.size() == 1 ? std::move(parts[0]) : make_expr(ExprKind::Compare, line, std::move(parts));
}

ExprPtr ExpressionParser::sum() {
  ExprPtr node = concat();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    const Token op = tokens_.next();
    ExprPtr right = concat();
    node = make_expr(ExprKind::Arithmetic, op.line, nodes(std::move(node), std::move(right)), op.text);
  }
  return node;
}

ExprPtr ExpressionParser::concat() {
  const int line = tokens_.line();
  std::vector<ExprPtr> parts = nodes(product());
  while (tokens_.skip_operator("~")) parts.push_back(product());
  return parts.size() == 1 ? std::move(parts[0]) : make_expr(ExprKind::Concat, line, std::move(parts));
}

ExprPtr ExpressionParser::product() {
  ExprPtr node = power();
  const auto at_operator = [&] {
    return tokens_.is_operator("*") || tokens_.is_operator("/") || tokens_.is_operator("//") ||
           tokens_.is_operator("%");
  };
  while (at_operator()) {
    const Token op = tokens_.next();
    ExprPtr right = power();
    node = make_expr(ExprKind::Arithmetic, op.line, nodes(std::move(node), std::move(right)), op.text);
  }
  return node;
}

ExprPtr ExpressionParser::power() {
  ExprPtr node = unary();
  while (tokens_.is_operator("**")) {
    const Token op = tokens_.next();
    ExprPtr right = unary();
    node = make_expr(ExprKind::Arithmetic, op.line, nodes(std::move(node), std::move(right)), op.text);
  }
  return node;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(*this);
  const int line = tokens_.line();
  ExprPtr node;
  if (tokens_.skip_operator("-")) {
    node = make_expr(ExprKind::Negate, line, nodes(unary(false)));
  } else if (tokens_.skip_operator("+")) {
    node = make_expr(ExprKind::Positive, line, nodes(unary(false)));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::primary(bool namespaces) {
  const int line = tokens_.line();
  switch (tokens_.current().kind) {
    case TokenKind::Name:
      return name(namespaces);
    case TokenKind::String:
      return string();
    case TokenKind::Integer: {
      const std::string text = tokens_.next().text;
      const auto value = parse_int(text, 0);
      if (!value) fail_at(line, "\"{}\" is not an integer", text);
      return constant(*value, line);
    }
    case TokenKind::Float: {
      const std::string text = tokens_.next().text;
      return constant(parse_float(text).value_or(0), line);
    }
    default:
      if (tokens_.is_operator("(")) return bracketed();
      if (tokens_.is_operator("[")) return list();
      if (tokens_.is_operator("{")) return dict();
      tokens_.unexpected("an expression");
  }
}

ExprPtr ExpressionParser::name(bool namespaces) {
  const Token token = tokens_.next();
  const std::string& text = token.text;
  if (text == "true" || text == "True") return constant(true, token.line);
  if (text == "false" || text == "False") return constant(false, token.line);
  if (text == "none" || text == "None") return constant(None{}, token.line);
  if (namespaces && tokens_.skip_operator(".")) {
    ExprPtr node = make_expr(ExprKind::NamespaceRef, token.line, {}, text);
    node->constant = Value(tokens_.expect_any_name());
    return node;
  }
  uses.varargs |= text == "varargs";
  uses.kwargs |= text == "kwargs";
  uses.caller |= text == "caller";
  return make_expr(ExprKind::Name, token.line, {}, text);
}

ExprPtr ExpressionParser::string() {
  const int line = tokens_.line();
  std::string text;
  while (tokens_.is(TokenKind::String)) text += tokens_.next().text;  // neighbours join, as in Python
  return constant(Value(std::move(text)), line);
}

ExprPtr ExpressionParser::bracketed() {
  const int line = tokens_.line();
  tokens_.expect_operator("(");
  ExprPtr node = tokens_.is_operator(")") ? make_expr(ExprKind::Tuple, line) : tuple();
  tokens_.expect_operator(")");
  return node;
}

ExprPtr ExpressionParser::list() {
  const int line = tokens_.line();
  tokens_.expect_operator("[");
  std::vector<ExprPtr> items;
  while (!tokens_.is_operator("]")) {
    if (!items.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator("]")) break;
    }
    items.push_back(expression());
  }
  tokens_.expect_operator("]");
  return make_expr(ExprKind::List, line, std::move(items));
}

ExprPtr ExpressionParser::dict() {
  const int line = tokens_.line();
  tokens_.expect_operator("{");
  std::vector<ExprPtr> items;
  while (!tokens_.is_operator("}")) {
    if (!items.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator("}")) break;
    }
    items.push_back(expression());
    tokens_.expect_operator(":");
    items.push_back(expression());
  }
  tokens_.expect_operator("}");
  return make_expr(ExprKind::Dict, line, std::move(items));
}

bool ExpressionParser::at_tuple_end(std::string_view end) const {
  return tokens_.is(TokenKind::VariableEnd) || tokens_.is(TokenKind::BlockEnd) || tokens_.is_operator(")") ||
         (!end.empty() && tokens_.is_name(end));
}

// After the first item: a comma makes a tuple, which may end in one.
ExprPtr ExpressionParser::tuple_of(ExprPtr first, ExprPtr (ExpressionParser::*item)(), std::string_view end, int line) {
  if (!tokens_.is_operator(",")) return first;
  std::vector<ExprPtr> items = nodes(std::move(first));
  while (tokens_.skip_operator(",")) {
    if (at_tuple_end(end)) break;
    items.push_back((this->*item)());
  }
  return make_expr(ExprKind::Tuple, line, std::move(items));
}

ExprPtr ExpressionParser::tuple(bool conditionals, std::string_view end) {
  const int line = tokens_.line();
  const auto item = conditionals ? &ExpressionParser::conditional : &ExpressionParser::or_expression;
  return tuple_of((this->*item)(), item, end, line);
}

ExprPtr ExpressionParser::plain_target() { return primary(false); }
ExprPtr ExpressionParser::namespace_target() { return primary(true); }

ExprPtr ExpressionParser::target(bool namespaces, std::string_view end) {
  const int line = tokens_.line();
  const auto item = namespaces ? &ExpressionParser::namespace_target : &ExpressionParser::plain_target;
  ExprPtr node = tuple_of((this->*item)(), item, end, line);
  const auto assignable = [](const auto& self, const Expr& e) -> bool {
    if (e.kind == ExprKind::Name || e.kind == ExprKind::NamespaceRef) return true;
    return e.kind == ExprKind::Tuple &&
           std::all_of(e.args.begin(), e.args.end(), [&](const ExprPtr& arg) { return self(self, *arg); });
  };
  if (!assignable(assignable, *node)) fail_at(line, "can't assign to this expression");
  return node;
}

ExprPtr ExpressionParser::target_name() {
  const int line = tokens_.line();
  return make_expr(ExprKind::Name, line, {}, tokens_.expect_any_name());
}

}  // namespace lamina::jinja
