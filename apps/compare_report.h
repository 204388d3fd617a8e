// SPDX-License-Identifier: Apache-2.0
// What lines of results say of each spec, side by side: the columns that the table on stdout and the page have in
// common, and all of it as JSON.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/results_file.h"

namespace lamina {

using Json = nlohmann::ordered_json;
using ResultsByName = std::map<std::string, const Result*, std::less<>>;  // [measurement]

struct SpecReport {
  std::string spec;
  ResultsByName results;

  // A number among the values, or the timing, of a measurement; none where it is not there.
  std::optional<double> value(std::string_view measurement, const char* name) const;
  std::optional<double> timing(std::string_view measurement, const char* name) const;
};

// A function of the lines. Points into them.
struct Report {
  ResultsOrigin origin;
  std::vector<SpecReport> specs;  // in the order of their first lines
  ResultsByName model;            // the measurements of the model itself

  static Report of(const ResultsOrigin& origin, const std::vector<Result>& results);
  std::optional<double> tokens() const;  // of the prompt after which bytes are told
};

struct Column {
  enum class Better : std::uint8_t { kLess, kMore, kNeither };
  std::string title;
  std::string about{};  // a sentence
  Better better = Better::kLess;
  int digits = 0;
  double scale = 1;           // of what is shown: 100 for percent
  bool on_page_only = false;  // there is less room in a terminal
  std::string plot{};         // what a plot of it against the bytes is called; empty: there is none
  bool logarithmic = false;   // that plot
  std::function<std::optional<double>(const SpecReport& spec)> value{};
  // Likely bounds, where they are known.
  std::function<std::optional<std::pair<double, double>>(const SpecReport& spec)> range{};

  std::string cell(const SpecReport& spec) const;  // "-" where there is no value
  std::string shown(double x) const;
};

std::vector<Column> columns(const Report& report);
std::vector<Column> task_columns(const Report& report);  // each task by itself, those of retrieval that are reported
Column bytes_column();                                   // the first of them

std::string text_table(const Report& report);
Json to_json(const Report& report);

}  // namespace lamina
