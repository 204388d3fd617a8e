// SPDX-License-Identifier: Apache-2.0
// Makes expression nodes, whose depth is bounded: what walks a tree may recurse.
#pragma once
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/syntax_error.h"

namespace lamina::jinja {

constexpr int kMaxExprDepth = 400;  // long chains of + grow it without nesting

// Takes in the depth of all children.
inline void deepen(Expr& node) {
  for (const ExprPtr& arg : node.args) node.depth = std::max(node.depth, arg ? arg->depth + 1 : 1);
  for (const auto& [name, arg] : node.named) node.depth = std::max(node.depth, arg->depth + 1);
  if (node.depth > kMaxExprDepth) fail_at(node.line, "an expression is nested deeper than {} levels", kMaxExprDepth);
}

inline ExprPtr make_expr(ExprKind kind, int line, std::vector<ExprPtr> args = {}, std::string name = {}) {
  auto node = std::make_unique<Expr>(Expr{kind, line, 1, std::move(name), {}, std::move(args), {}});
  deepen(*node);
  return node;
}

template <class... Args>
std::vector<ExprPtr> nodes(Args... args) {
  std::vector<ExprPtr> out;
  (out.push_back(std::move(args)), ...);
  return out;
}

}  // namespace lamina::jinja
