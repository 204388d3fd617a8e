// SPDX-License-Identifier: Apache-2.0
// Any bytes as the results of `lamina compare`, made into its table, its page and its JSON.
#include <cstdint>
#include <cstdlib>

#include "apps/compare_html.h"
#include "apps/compare_report.h"
#include "base/error.h"
#include "engine/results_file.h"
#include "fuzz/scratch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ScratchFile scratch;
  const std::string path = scratch.holding({data, size});
  // Of the seeds' lines.
  const lamina::ResultsOrigin origin{
      .model = "m", .model_id = "i", .version = "v", .machine = "c", .suite = "s", .data = "d"};
  try {
    const lamina::ResultsFile file(path, origin);
    const lamina::Report report = lamina::Report::of(file.origin(), file.results());
    if (lamina::text_table(report).empty() || lamina::to_json(report).dump().empty()) std::abort();
    if (lamina::comparison_page(report).empty()) std::abort();
  } catch (const lamina::Error&) {  // what a wrong file should cause
  }
  return 0;
}
