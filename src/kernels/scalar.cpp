// SPDX-License-Identifier: Apache-2.0
// The kernels' bodies compiled for any machine. Nothing but kernel headers may be included here: an inline function of
// a library compiled with these flags could replace the baseline's copy at link time. The order matters: primitives,
// what is built from them, bodies.
// clang-format off
#include "kernels/simd_scalar.h"
#include "kernels/simd.h"
#include "kernels/matmul.inl.h"
#include "kernels/ops.inl.h"
#include "kernels/attend.inl.h"
#include "kernels/attend_codes.inl.h"
#include "kernels/attend_codes_mix.inl.h"
#include "kernels/attend_bytes.inl.h"
#include "kernels/attend_prompt.inl.h"
#include "kernels/peak.inl.h"
