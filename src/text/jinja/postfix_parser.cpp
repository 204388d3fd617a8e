// SPDX-License-Identifier: Apache-2.0
// What may follow an operand: attributes, items, calls, filters and tests.
#include <utility>

#include "text/jinja/expression_parser.h"
#include "text/jinja/make_expr.h"

namespace lamina::jinja {

ExprPtr ExpressionParser::postfix(ExprPtr node) {
  while (true) {
    if (tokens_.is_operator(".") || tokens_.is_operator("[")) {
      node = subscript(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::filters_and_tests(ExprPtr node) {
  while (true) {
    if (tokens_.skip_operator("|")) {
      node = filter(std::move(node));
    } else if (tokens_.skip_name("is")) {
      node = test(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr node) {
  const int line = tokens_.line();
  if (tokens_.skip_operator(".")) {
    if (tokens_.is(TokenKind::Name))
      return make_expr(ExprKind::Attribute, line, nodes(std::move(node)), tokens_.next().text);
    if (!tokens_.is(TokenKind::Integer)) tokens_.unexpected("a name or number");
    return make_expr(ExprKind::Item, line, nodes(std::move(node), primary()));
  }
  tokens_.expect_operator("[");
  ExprPtr start = tokens_.is_operator(":") ? nullptr : expression();
  if (tokens_.is_operator(":")) return slice(std::move(node), std::move(start), line);
  start = tuple_of(std::move(start), &ExpressionParser::conditional, {}, line);
  tokens_.expect_operator("]");
  return make_expr(ExprKind::Item, line, nodes(std::move(node), std::move(start)));
}

ExprPtr ExpressionParser::slice(ExprPtr node, ExprPtr start, int line) {
  const auto bound = [&]() -> ExprPtr {
    return tokens_.is_operator(":") || tokens_.is_operator("]") ? nullptr : expression();
  };
  tokens_.expect_operator(":");
  ExprPtr stop = bound();
  ExprPtr step = tokens_.skip_operator(":") ? bound() : nullptr;
  tokens_.expect_operator("]");
  return make_expr(ExprKind::Slice, line, nodes(std::move(node), std::move(start), std::move(stop), std::move(step)));
}

ExprPtr ExpressionParser::call(ExprPtr node) {
  ExprPtr out = make_expr(ExprKind::Call, tokens_.line(), nodes(std::move(node)));
  arguments(*out);
  return out;
}

void ExpressionParser::arguments(Expr& call) {
  tokens_.expect_operator("(");
  bool first = true;
  while (!tokens_.is_operator(")")) {
    if (!first) {
      tokens_.expect_operator(",");
      if (tokens_.is_operator(")")) break;
    }
    first = false;
    if (tokens_.is_operator("*") || tokens_.is_operator("**")) {
      std::string star = tokens_.next().text;
      call.named.emplace_back(std::move(star), expression());
    } else if (tokens_.is(TokenKind::Name) && tokens_.ahead().kind == TokenKind::Operator &&
               tokens_.ahead().text == "=") {
      std::string key = tokens_.next().text;
      tokens_.next();
      call.named.emplace_back(std::move(key), expression());
    } else {
      if (!call.named.empty()) fail_at(tokens_.line(), "a positional argument follows a keyword argument");
      call.args.push_back(expression());
    }
  }
  tokens_.expect_operator(")");
  deepen(call);
}

ExprPtr ExpressionParser::filter(ExprPtr input) {
  const int line = tokens_.line();
  std::string filter_name = tokens_.expect_any_name();
  ExprPtr node = make_expr(ExprKind::Filter, line, nodes(std::move(input)), std::move(filter_name));
  if (tokens_.is_operator("(")) arguments(*node);
  return node;
}

ExprPtr ExpressionParser::filter_chain(ExprPtr input) {
  while (tokens_.skip_operator("|")) input = filter(std::move(input));
  return input;
}

ExprPtr ExpressionParser::test(ExprPtr node) {
  const int line = tokens_.line();
  const bool negated = tokens_.skip_name("not");
  ExprPtr out = make_expr(ExprKind::Test, line, nodes(std::move(node)), tokens_.expect_any_name());
  const TokenKind kind = tokens_.current().kind;
  const bool value_follows =
      ((kind == TokenKind::Name && !tokens_.is_name("else") && !tokens_.is_name("or") && !tokens_.is_name("and")) ||
       kind == TokenKind::String || kind == TokenKind::Integer || kind == TokenKind::Float ||
       tokens_.is_operator("[") || tokens_.is_operator("{"));
  if (tokens_.is_operator("(")) {
    arguments(*out);
  } else if (value_follows) {
    if (tokens_.is_name("is")) fail_at(line, "tests cannot be chained with is");
    out->args.push_back(postfix(primary()));
    deepen(*out);
  }
  return negated ? make_expr(ExprKind::Not, line, nodes(std::move(out))) : std::move(out);
}

}  // namespace lamina::jinja
