// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace lamina {

// What an operation has to do at least. A multiply-add is two operations.
struct Work {
  double bytes = 0;    // read or written
  double f32_ops = 0;  // in float32
  double int_ops = 0;  // of single bytes: a code that meets a number of two digits takes two
  double ops() const { return f32_ops + int_ops; }

  Work& operator+=(const Work& other) {
    bytes += other.bytes;
    f32_ops += other.f32_ops;
    int_ops += other.int_ops;
    return *this;
  }
  friend Work operator*(double n, const Work& work) { return {n * work.bytes, n * work.f32_ops, n * work.int_ops}; }
};

}  // namespace lamina
