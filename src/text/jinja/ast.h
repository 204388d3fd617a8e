// SPDX-License-Identifier: Apache-2.0
// The syntax tree of a template. One node type for expressions and one for statements: `kind` says which fields count.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace lamina::jinja {

enum class ExprKind {
  Constant,      // constant
  Name,          // name
  NamespaceRef,  // name.attribute as a target of set: name; constant holds the attribute
  List,          // args
  Tuple,         // args
  Dict,          // args: key, value, key, value, ...
  Attribute,     // args[0].name
  Item,          // args[0][args[1]]
  Slice,         // args[0][args[1]:args[2]:args[3]], where each of the last three may be null
  Call,          // args[0](args[1...], named)
  Filter,        // args[0] | name(args[1...], named); args[0] is null in a filter block
  Test,          // args[0] is name(args[1...], named)
  Not,           // args[0]
  Negate,        // args[0]
  Positive,      // args[0]
  Arithmetic,    // args[0] name args[1]
  Concat,        // args joined by ~
  Compare,       // args[0], then Operand nodes
  Operand,       // name args[0]: the operator and its right side
  And,           // args[0], args[1]
  Or,            // args[0], args[1]
  Conditional,   // args[0] if args[1] else args[2], which may be null
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind;
  int line;
  int depth = 1;  // of the tree below, this node included
  std::string name;
  Value constant;
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> named;  // *args and **kwargs have the names "*" and "**"
};

enum class StmtKind {
  Text,         // text
  Print,        // values
  If,           // branches, else_body
  For,          // target, value (what is walked), test (or null), body, else_body
  Set,          // target, value
  SetBlock,     // target, value (a chain of filters, or null), body
  Macro,        // text (its name), bindings (parameters), body, uses
  CallBlock,    // value (a call), bindings (parameters of caller), body, uses
  FilterBlock,  // value (a chain of filters), body
  With,         // bindings, body
  Generation,   // body: the part that the assistant writes, marked for training
  Break,
  Continue,
};

struct Stmt;
using Body = std::vector<Stmt>;

struct Branch;
struct Binding {
  ExprPtr target;
  ExprPtr value;  // of a parameter: its default, or null
};

// The special names that a macro's body reads, which decide the arguments that it takes.
struct MacroUses {
  bool varargs = false;
  bool kwargs = false;
  bool caller = false;
};

struct Stmt {
  StmtKind kind;
  int line;
  std::string text;
  ExprPtr target, value, test;
  std::vector<ExprPtr> values;
  std::vector<Binding> bindings;
  std::vector<Branch> branches;
  Body body, else_body;
  MacroUses uses;
};

struct Branch {
  ExprPtr test;
  Body body;
};

}  // namespace lamina::jinja
