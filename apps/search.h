// SPDX-License-Identifier: Apache-2.0
// What the searches share.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "common.h"
#include "kv/layers/strategy_file.h"

namespace lamina {

struct SearchArguments {
  ModelArguments model;
  std::string calibration, output;
  int sentences = 30, tokens = 64;
};
void add_calibration_options(CLI::App& app, SearchArguments& args);

// A model and the sentences to search on. Error for a text that has too few, and for an output that cannot be written:
// minutes of work should not end there.
struct SearchInput {
  explicit SearchInput(const SearchArguments& args);

  Calibration calibration;
  Loaded loaded;
  std::vector<std::vector<Token>> sentences;

 private:
  SearchInput(const SearchArguments& args, const std::string& text);
};

// Writes the file, and what the user is to know of it to stdout; with the output "-" to stdout and stderr.
void write_result(const SearchArguments& args, std::string_view text, std::string_view summary);
std::string quoted_output(const SearchArguments& args);  // as a spec names the file

void add_minicache_search(CLI::App& search_app);

}  // namespace lamina
