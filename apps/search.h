// SPDX-License-Identifier: Apache-2.0
// What the searches share.
#pragma once
#include <string>
#include <string_view>

#include "common.h"

namespace lamina {

void add_calibration_options(CLI::App& app, ModelArguments& model, std::string& file, int& sentences, int& tokens);
// Minutes of work should not end at a file that cannot be written. Leaves no empty file where none was. "-": stdout.
void require_writable(const std::string& path);
void write_result(const std::string& path, std::string_view text);

void add_minicache_search(CLI::App& search_app);

}  // namespace lamina
