// SPDX-License-Identifier: Apache-2.0
// Guards that the two halves of the interpreter share.
#pragma once
#include <memory>
#include <utility>

#include "base/error.h"
#include "text/jinja/interpreter.h"

namespace lamina::jinja {

// Counts nested work, macro calls included: a template that goes too deep is refused before the stack is.
class Interpreter::Depth {
 public:
  explicit Depth(Interpreter& interpreter) : interpreter_(interpreter) {
    require(interpreter_.depth_ < kMaxDepth, "nested deeper than {} levels", kMaxDepth);
    ++interpreter_.depth_;
  }
  ~Depth() { --interpreter_.depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  static constexpr int kMaxDepth = 1000;
  Interpreter& interpreter_;
};

// A new scope inside `parent`, left at the end.
class Interpreter::Inside {
 public:
  Inside(Interpreter& interpreter, std::shared_ptr<Scope> parent)
      : interpreter_(interpreter),
        outer_(std::exchange(interpreter.scope_, std::make_shared<Scope>(Scope{std::move(parent), {}}))) {}
  explicit Inside(Interpreter& interpreter) : Inside(interpreter, interpreter.scope_) {}
  ~Inside() { interpreter_.scope_ = std::move(outer_); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Interpreter& interpreter_;
  std::shared_ptr<Scope> outer_;
};

}  // namespace lamina::jinja
