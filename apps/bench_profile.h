// SPDX-License-Identifier: Apache-2.0
// What lamina bench --profile found, test by test: a table of operations on stdout, and a page where one is asked for.
#pragma once
#include <fstream>
#include <string>
#include <vector>

#include "bench_report.h"
#include "engine/machine.h"
#include "model/profile.h"

namespace lamina {

struct ProfiledTest {
  BenchResult result;
  Profile profile;  // of all repetitions
  MachineLimits limits;

  double seconds() const;  // of a repetition
  double tokens_per_second() const;
};

enum class OpKind : std::uint8_t { kProduct, kAttention, kRows, kCache, kOther };

// An operation in a test: of one repetition.
struct ProfileRow {
  std::string name{};
  OpKind kind = OpKind::kOther;
  double calls = 0, seconds = 0;
  Work work{};
  Bound bound{};

  double of_limit() const { return seconds > 0 ? bound.seconds / seconds : 0; }
};
struct ProfileRows {
  std::vector<ProfileRow> operations;  // those that took time, in the order of a step; the last is what is left
  ProfileRow total;
};
ProfileRows profile_rows(const ProfiledTest& test);

// The cells of a row and their titles; empty where there is nothing to say.
std::vector<std::string> profile_titles();
std::vector<std::string> profile_cells(const ProfileRow& row, double total_seconds);
std::string test_title(const ProfiledTest& test);      // "tg128 @ d4096, full, 2 threads"
std::string limits_text(const MachineLimits& limits);  // "reads 46.0 GB/s, …"
extern const char* const kProfileNote;                 // how to read the figures

class ProfileReport {
 public:
  ProfileReport(BenchModel model, const std::string& output);  // md, or the page's path
  ~ProfileReport();
  ProfileReport(const ProfileReport&) = delete;
  ProfileReport& operator=(const ProfileReport&) = delete;

  void add(ProfiledTest test);
  void finish();  // writes the page

 private:
  BenchModel model_;
  std::string path_;    // of the page, empty: none
  std::ofstream page_;  // under another name until it is whole
  std::vector<ProfiledTest> tests_;
};

}  // namespace lamina
