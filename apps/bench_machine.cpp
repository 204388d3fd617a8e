// SPDX-License-Identifier: Apache-2.0
// lamina bench --machine: what this machine can do at most, by number of threads.
#include <nlohmann/json.hpp>

#include "bench.h"
#include "engine/machine.h"
#include "kernels/kernels.h"
#include "machine_info.h"
#include "table.h"

namespace lamina {
namespace {

constexpr double kRepetitionSeconds = 0.05;  // of each figure

nlohmann::ordered_json record(const MachineLimits& limits) {
  nlohmann::ordered_json record{{"build_commit", build_commit()},
                                {"cpu_info", cpu_name()},
                                {"isa", name(chosen_isa())},
                                {"n_threads", limits.threads},
                                {"read_bytes_per_s", limits.read_bytes},
                                {"f32_ops_per_s", limits.f32_ops},
                                {"bf16_ops_per_s", nullptr},
                                {"int8_ops_per_s", limits.int8_ops}};
  if (limits.bf16_ops > 0) record["bf16_ops_per_s"] = limits.bf16_ops;
  return record;
}

}  // namespace

void bench_machine(const BenchArguments& args) {
  const bool all = args.threads == std::vector<int>{0};
  nlohmann::ordered_json records = nlohmann::ordered_json::array();
  std::vector<TableRow> rows;
  for (const int threads : all ? thread_steps(thread_count(0)) : args.threads) {
    require(!interrupted(), "interrupted");
    ThreadPool pool(thread_count(threads));
    const MachineLimits limits = measure_machine(pool, kRepetitionSeconds * args.repetitions);
    records.push_back(record(limits));
    const auto giga = [](double x) { return x > 0 ? fmt::format("{:.1f}", x / 1e9) : std::string("none"); };
    rows.push_back({std::to_string(limits.threads), giga(limits.read_bytes), giga(limits.f32_ops),
                    giga(limits.bf16_ops), giga(limits.int8_ops)});
  }
  if (args.output == "json") return print_now(records.dump(2) + "\n");
  print_now(
      fmt::format("{}, {}; a multiply-add is two operations\n\n{}", cpu_name(), name(chosen_isa()),
                  markdown_table({"threads", "read GB/s", "float32 GOP/s", "bf16 GOP/s", "int8 GOP/s"}, rows, 0)));
}

}  // namespace lamina
