// SPDX-License-Identifier: Apache-2.0
// Results of `lamina compare`, a JSON line for each measurement of each spec, written as soon as it is known: a run
// that was killed goes on where it stopped, and a report is a function of these lines alone.
//
//   {"schema": "lamina.compare/1", "model": …, "model_id": …, "version": …, "machine": …, "suite": …, "data": …,
//    "kv_spec": "k8v8", "kv_key": …, "measurement": "perplexity", "values": {…}, "timing": {"seconds": …, …}}
//
// Everything but "timing" is the same in every run, bit for bit.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

// What all lines of a file have in common: figures of another one would not compare.
struct ResultsOrigin {
  std::string model{};     // its name
  std::string model_id{};  // model_identity()
  std::string version{};   // of Lamina
  std::string machine{};   // the processor and the instruction set used
  std::string suite{};     // "quick"
  std::string data{};      // a hash of the texts, items and sizes that the suite measures with
  bool operator==(const ResultsOrigin&) const = default;
};

struct Result {
  std::string kv_spec{}, kv_key{};  // KvSpec::text() and key()
  std::string measurement{};
  nlohmann::ordered_json values{}, timing{};
  bool operator==(const Result&) const = default;
};

class ResultsFile {
 public:
  // Makes the file if there is none. A last line without an end, which a kill or a full disk has left, is dropped.
  // Error, with the file left as it is: a line that is none of these, a line of another origin, another process at work
  // on it.
  ResultsFile(std::string path, ResultsOrigin origin);
  ~ResultsFile();
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  const std::string& path() const { return path_; }
  const ResultsOrigin& origin() const { return origin_; }
  const std::vector<Result>& results() const { return results_; }                   // in the order of the lines
  const Result* find(std::string_view kv_key, std::string_view measurement) const;  // null: not yet measured
  // The line is on the disk when this returns. Error if it cannot be: the lines before it are whole.
  void append(const Result& result);

 private:
  void open();
  void read();
  void check(bool ok, std::string_view what) const;

  std::string path_;
  ResultsOrigin origin_;
  int file_ = -1;
  std::vector<Result> results_;
};

}  // namespace lamina
