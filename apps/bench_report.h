// SPDX-License-Identifier: Apache-2.0
// The results of `lamina bench` as they come, with llama-bench's columns and field names, so that its scripts read
// them, plus the spec and its bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kv/bits/format.h"
#include "model/model_file.h"

namespace lamina {

struct BenchModel {
  std::string filename{}, type{};  // type: "llama 134.52M Q4_0", the type that most of the weights have
  std::size_t bytes = 0;           // of the tensors in the file
  std::int64_t parameters = 0;

  static BenchModel of(const ModelFile& file);
};

struct BenchResult {
  std::string kv_spec{};
  std::string type_k{}, type_v{};  // "mixed" where layers differ
  int batch = 0, threads = 0, sequences = 1;
  int prompt = 0, gen = 0, depth = 0;  // tokens of each sequence
  std::string time{};                  // when the test began, UTC, ISO 8601
  std::vector<double> seconds{};       // [repetition]
  // Of all sequences together.
  std::size_t kv_bytes = 0;        // held at the end of the test
  std::size_t kv_bytes_read = 0;   // of the cache, by the next step of decoding
  std::size_t all_bytes_read = 0;  // the same with the weights
  std::size_t dense_bytes = 0;     // that the dense f16 cache of this length holds
};

std::string test_name(const BenchResult& result);  // "pp512", "tg64 @ d4096", "pp512+tg64"

class BenchReport {
 public:
  struct Layout {
    std::string format;  // md, json, jsonl or csv
    std::size_t spec_width = 0;
    bool show_batch = false, show_sequences = false;  // md: whether they have a column
  };

  BenchReport(BenchModel model, Layout layout);
  ~BenchReport();  // ends the output: what was printed is complete even if a test failed
  BenchReport(const BenchReport&) = delete;
  BenchReport& operator=(const BenchReport&) = delete;

  void add(const BenchResult& result);

 private:
  nlohmann::ordered_json record(const BenchResult& result) const;
  void markdown_header();
  void markdown(const BenchResult& result, const nlohmann::ordered_json& record) const;
  void csv(const nlohmann::ordered_json& record) const;

  struct Column {
    std::string title;
    std::size_t width = 0;  // wider cells push a row out of line, which Markdown allows
    bool left = false;
  };
  void print_row(const std::vector<std::string>& cells) const;

  BenchModel model_;
  Layout layout_;
  std::vector<Column> columns_;  // of md
  std::size_t rows_ = 0;
};

}  // namespace lamina
