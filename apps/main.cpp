// SPDX-License-Identifier: Apache-2.0
// lamina: one program, a subcommand for each job. Results go to stdout, everything else to stderr. Exit status 0, or 1
// for an error of a file or a value and for a red finding of the doctor, 2 for a wrong command line, 130 after Ctrl-C.
#include <malloc.h>

#include <array>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common.h"

namespace {

// llama.cpp's options of one dash and several letters, which a command line parser takes for a row of short options.
std::vector<std::string> long_names(int argc, char** argv) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kNames{{{"-np", "--parallel"},
                                                                                        {"-ctk", "--cache-type-k"},
                                                                                        {"-ctv", "--cache-type-v"},
                                                                                        {"-pg", "--prompt-gen"},
                                                                                        {"-sys", "--system-prompt"}}};
  std::vector<std::string> args;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 takes them in reverse
    args.emplace_back(argv[i]);
    for (const auto& [from, to] : kNames)
      if (args.back() == from) args.back() = to;
  }
  return args;
}

// The parser finds what is missing before it looks at what it did not know: the user needs to see both.
std::string message(const CLI::ParseError& error, const CLI::App& program) {
  const std::vector<std::string> unknown = program.remaining(true);
  const bool named = unknown.empty() || error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError);
  return named ? error.what() : fmt::format("{}, found {}", error.what(), unknown.front());
}

// What a token measures of thousands of rows is allotted and freed at every step: the C library gave those pages back
// each time, to get them cleared again at the next (4 % of a step of h2o at 8000 tokens). What a prompt leaves is given
// back at its end (KvSequence::commit).
void keep_freed_pages() {
  ::mallopt(M_TRIM_THRESHOLD, 32 << 20);
  ::mallopt(M_MMAP_THRESHOLD, 4 << 20);
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_pages();
  CLI::App program("Lamina runs language models on a KV cache that folds along layers, tokens and bits.", "lamina");
  program.require_subcommand(1);
  lamina::add_run(program);
  lamina::add_chat(program);
  lamina::add_plan(program);
  lamina::add_bench(program);
  lamina::add_compare(program);
  lamina::add_eval(program);
  lamina::add_doctor(program);
  lamina::add_search(program);
  lamina::add_tune(program);
  lamina::add_profile(program);
  lamina::add_tokenize(program);
  lamina::add_convert(program);
  try {
    lamina::catch_interrupts();
    program.parse(long_names(argc, argv));
    lamina::print_now("");  // whatever is buffered
    return lamina::interrupted() ? 130 : 0;
  } catch (const CLI::Success& success) {
    return program.exit(success);
  } catch (const CLI::RuntimeError& verdict) {  // the command has said why
    return verdict.get_exit_code();
  } catch (const CLI::ParseError& error) {
    std::cerr << "lamina: " << message(error, program) << " (see lamina --help)\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "lamina: error: " << error.what() << '\n';
    return lamina::interrupted() ? 130 : 1;
  }
}
