// SPDX-License-Identifier: Apache-2.0
// The expressions of a template, by recursive descent with bounded depth.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace lamina::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExprPtr expression() { return conditional(); }
  ExprPtr without_conditional() { return or_expression(); }
  // One expression, or a tuple without brackets; `end` is a name that ends it.
  ExprPtr tuple(bool conditionals = true, std::string_view end = {});
  ExprPtr target(bool namespaces, std::string_view end = {});  // what may be assigned to
  ExprPtr target_name();
  ExprPtr filter_chain(ExprPtr input);  // | name(...) | name(...), at least none
  ExprPtr filter(ExprPtr input);        // name(...)

  MacroUses uses;  // grows with every name read

  // Counts nested parsing: what is nested too deep is refused before the stack is.
  class Nesting {
   public:
    Nesting(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) {
        fail_at(parser_.tokens_.line(), "nested deeper than {} levels", kMaxNesting);
      }
    }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    static constexpr int kMaxNesting = 150;
    ExpressionParser& parser_;
  };

 private:
  ExprPtr conditional();
  ExprPtr or_expression();
  ExprPtr and_expression();
  ExprPtr not_expression();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concat();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters = true);
  ExprPtr primary(bool namespaces = false);
  ExprPtr name(bool namespaces);
  ExprPtr string();
  ExprPtr bracketed();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr node);
  ExprPtr filters_and_tests(ExprPtr node);
  ExprPtr subscript(ExprPtr node);
  ExprPtr slice(ExprPtr node, ExprPtr start, int line);
  ExprPtr test(ExprPtr node);
  ExprPtr call(ExprPtr node);
  void arguments(Expr& call);
  bool at_tuple_end(std::string_view end) const;
  ExprPtr tuple_of(ExprPtr first, ExprPtr (ExpressionParser::*item)(), std::string_view end, int line);
  ExprPtr plain_target();
  ExprPtr namespace_target();

  TokenStream& tokens_;
  int nesting_ = 0;
};

}  // namespace lamina::jinja
