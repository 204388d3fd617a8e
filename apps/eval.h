// SPDX-License-Identifier: Apache-2.0
// The tasks of `lamina eval`.
#pragma once
#include <CLI/CLI.hpp>

namespace lamina {

void add_choice(CLI::App& eval);
void add_passkey(CLI::App& eval);
void add_retrieval(CLI::App& eval);
void add_generate(CLI::App& eval);

}  // namespace lamina
