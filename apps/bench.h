// SPDX-License-Identifier: Apache-2.0
// lamina bench: what the command line says, and what is then done.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common.h"

namespace lamina {

struct BenchTest {
  int prompt = 0, gen = 0;  // tokens; a prompt comes first
};

struct BenchArguments {
  ModelArguments model;  // its file, its specs
  std::vector<int> prompts = {512}, gens = {128}, depths = {0}, batches = {512}, threads = {0}, sequences = {1};
  std::uint64_t kv_budget = 0;  // bytes, of bench_throughput; 0: none
  std::string file;             // its text
  std::vector<BenchTest> pairs;
  int repetitions = 5;
  bool machine = false, profile = false;
  std::string output = "md";

  std::vector<BenchTest> tests() const;
};

void bench_model(const BenchArguments& args);
void bench_throughput(const BenchArguments& args);
void bench_machine(const BenchArguments& args);

}  // namespace lamina
