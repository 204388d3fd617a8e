// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "text/jinja/expression_parser.h"
#include "text/jinja/lexer.h"

namespace lamina::jinja {

namespace {

using Words = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Body run() { return statements({}); }

 private:
  // Up to a tag that begins with one of `ends`, which is left unread; to the end of the template if there are none.
  Body statements(Words ends) {
    Body body;
    while (!tokens_.is(TokenKind::End)) {
      const int line = tokens_.line();
      if (tokens_.is(TokenKind::Data)) {
        body.push_back(make(StmtKind::Text, line));
        body.back().text = tokens_.next().text;
      } else if (tokens_.is(TokenKind::VariableBegin)) {
        tokens_.next();
        body.push_back(make(StmtKind::Print, line));
        body.back().values.push_back(expressions_.tuple());
        tokens_.expect(TokenKind::VariableEnd, "end of expression");
      } else {
        tokens_.expect(TokenKind::BlockBegin, "a tag");
        if (at_any(ends)) return body;
        body.push_back(statement());
        tokens_.expect(TokenKind::BlockEnd, "end of tag");
      }
    }
    if (ends.size() > 0) fail_at(tokens_.line(), "unexpected end of template, expected \"{}\"", *(ends.end() - 1));
    return body;
  }

  // The statements of a tag's body, from that tag's end on.
  Body block(Words ends) {
    tokens_.skip_operator(":");
    tokens_.expect(TokenKind::BlockEnd, "end of tag");
    return statements(ends);
  }

  Body block_to(std::string_view end) {
    Body body = block({end});
    tokens_.expect_name(end);
    return body;
  }

  bool at_any(Words words) const {
    return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return tokens_.is_name(word); });
  }

  static Stmt make(StmtKind kind, int line) {
    Stmt out{};
    out.kind = kind;
    out.line = line;
    return out;
  }

  Stmt statement() {
    const ExpressionParser::Nesting nesting(expressions_);
    const int line = tokens_.line();
    const std::string tag = tokens_.expect_any_name();
    if (tag == "if") return if_statement(line);
    if (tag == "for") return for_statement(line);
    if (tag == "set") return set_statement(line);
    if (tag == "macro") return macro_statement(line);
    if (tag == "call") return call_statement(line);
    if (tag == "filter") return filter_statement(line);
    if (tag == "with") return with_statement(line);
    if (tag == "print") return print_statement(line);
    if (tag == "break" || tag == "continue") return leave_statement(tag, line);
    if (tag == "generation") {
      Stmt out = make(StmtKind::Generation, line);
      out.body = function_body("endgeneration");
      return out;
    }
    fail_at(line, "unsupported tag \"{}\"", tag);
  }

  Stmt if_statement(int line) {
    Stmt out = make(StmtKind::If, line);
    do {
      Branch branch;
      branch.test = expressions_.tuple(false);
      branch.body = block({"elif", "else", "endif"});
      out.branches.push_back(std::move(branch));
    } while (tokens_.skip_name("elif"));
    if (tokens_.skip_name("else")) out.else_body = block({"endif"});
    tokens_.expect_name("endif");
    return out;
  }

  Stmt for_statement(int line) {
    Stmt out = make(StmtKind::For, line);
    out.target = expressions_.target(false, "in");
    tokens_.expect_name("in");
    out.value = expressions_.tuple(false, "recursive");
    if (tokens_.skip_name("if")) out.test = expressions_.expression();
    if (tokens_.is_name("recursive")) fail_at(line, "unsupported: a recursive loop");
    ++loops_;
    out.body = block({"endfor", "else"});
    --loops_;
    if (tokens_.skip_name("else")) out.else_body = block({"endfor"});
    tokens_.expect_name("endfor");
    return out;
  }

  Stmt leave_statement(const std::string& tag, int line) {
    if (loops_ == 0) fail_at(line, "\"{}\" outside a loop", tag);
    return make(tag == "break" ? StmtKind::Break : StmtKind::Continue, line);
  }

  Stmt set_statement(int line) {
    Stmt out = make(StmtKind::Set, line);
    out.target = expressions_.target(true);
    if (tokens_.skip_operator("=")) {
      out.value = expressions_.tuple();
      return out;
    }
    out.kind = StmtKind::SetBlock;
    out.value = expressions_.filter_chain(nullptr);
    out.body = block_to("endset");
    return out;
  }

  // A body that runs as a function of its own: a loop around it is out of reach.
  Body function_body(std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    Body body = block_to(end);
    loops_ = outer_loops;
    return body;
  }

  // Parameters and body of a macro or call block, and which special names the body reads.
  void signature(Stmt& out) {
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      if (!out.bindings.empty()) tokens_.expect_operator(",");
      Binding parameter{expressions_.target_name(), nullptr};
      if (tokens_.skip_operator("=")) {
        parameter.value = expressions_.expression();
      } else if (!out.bindings.empty() && out.bindings.back().value) {
        fail_at(out.line, "a parameter without a default follows one that has it");
      }
      out.bindings.push_back(std::move(parameter));
    }
    tokens_.expect_operator(")");
  }

  void macro_body(Stmt& out, std::string_view end) {
    const MacroUses outer = std::exchange(expressions_.uses, {});
    out.body = function_body(end);
    out.uses = expressions_.uses;
    // A macro inside may use them of the outer one.
    expressions_.uses.varargs |= outer.varargs;
    expressions_.uses.kwargs |= outer.kwargs;
    expressions_.uses.caller |= outer.caller;
  }

  Stmt macro_statement(int line) {
    Stmt out = make(StmtKind::Macro, line);
    out.text = tokens_.expect_any_name();
    signature(out);
    macro_body(out, "endmacro");
    return out;
  }

  Stmt call_statement(int line) {
    Stmt out = make(StmtKind::CallBlock, line);
    out.text = "caller";
    if (tokens_.is_operator("(")) signature(out);
    out.value = expressions_.expression();
    if (out.value->kind != ExprKind::Call) fail_at(line, "a call block needs a call");
    macro_body(out, "endcall");
    return out;
  }

  Stmt filter_statement(int line) {
    Stmt out = make(StmtKind::FilterBlock, line);
    out.value = expressions_.filter_chain(expressions_.filter(nullptr));
    out.body = block_to("endfilter");
    return out;
  }

  Stmt with_statement(int line) {
    Stmt out = make(StmtKind::With, line);
    while (!tokens_.is(TokenKind::BlockEnd)) {
      if (!out.bindings.empty()) tokens_.expect_operator(",");
      Binding binding{expressions_.target(false), nullptr};
      tokens_.expect_operator("=");
      binding.value = expressions_.expression();
      out.bindings.push_back(std::move(binding));
    }
    out.body = block_to("endwith");
    return out;
  }

  Stmt print_statement(int line) {
    Stmt out = make(StmtKind::Print, line);
    while (!tokens_.is(TokenKind::BlockEnd)) {
      if (!out.values.empty()) tokens_.expect_operator(",");
      out.values.push_back(expressions_.expression());
    }
    return out;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  // that a break here could leave
};

}  // namespace

Body parse(std::string_view source) { return Parser(source).run(); }

}  // namespace lamina::jinja
