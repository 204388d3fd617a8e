// SPDX-License-Identifier: Apache-2.0
// The rotation of `+ rotate` (QuaRot, arXiv:2404.00456): a Hadamard transform spreads what few channels hold over all
// of them, so that codes with one scale for many channels lose less. It is orthogonal and its own inverse, so queries
// meet rotated keys as they would the others, and the output is rotated back once a head.
#pragma once

namespace lamina {

// In place: blocks of the largest power of two that divides n, each x -> H x / sqrt(block).
void hadamard(float* x, int n);

}  // namespace lamina
