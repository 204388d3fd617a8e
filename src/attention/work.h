// SPDX-License-Identifier: Apache-2.0
// What attention has to do, counted for a profile.
#pragma once
#include <span>

#include "attention/attention.h"
#include "base/work.h"

namespace lamina {

// Of a call of attend(): each tile of rows that any of a query's tokens sees is read once; a token multiplies with the
// keys and the values of the rows that it sees, dead ones included; a product of two digits counts twice. What
// observing costs besides is not counted.
Work attention_work(const AttendKernels& kernels, const AttentionShape& shape, std::span<const Query> queries);

}  // namespace lamina
