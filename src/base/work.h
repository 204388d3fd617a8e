// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace lamina {

// What an operation has to do at least, however it is done. A multiply-add is two operations.
struct Work {
  double bytes = 0;    // read or written
  double f32_ops = 0;  // in float32
  double int_ops = 0;  // of stored codes with numbers of two bytes: each takes two dot products of single bytes
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
