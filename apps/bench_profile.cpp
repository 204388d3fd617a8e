// SPDX-License-Identifier: Apache-2.0
#include "bench_profile.h"

#include <cstdio>
#include <filesystem>
#include <numeric>

#include "bench_html.h"
#include "common.h"
#include "machine_info.h"
#include "table.h"

namespace lamina {
namespace {

OpKind kind_of(Op op) {
  switch (op) {
    case Op::kQkv:
    case Op::kOutput:
    case Op::kGateUp:
    case Op::kDown:
    case Op::kHead:
      return OpKind::kProduct;
    case Op::kAttendPrompt:
    case Op::kAttendDecode:
      return OpKind::kAttention;
    case Op::kAppend:
    case Op::kCommit:
      return OpKind::kCache;
    default:
      return OpKind::kRows;
  }
}

// Of those that read weights or the cache. The others work on activations, which caches hold.
bool has_limit(Op op) {
  return kind_of(op) == OpKind::kProduct || kind_of(op) == OpKind::kAttention || op == Op::kCommit;
}

std::string part_path(const std::string& path) { return path + ".part"; }

}  // namespace

const char* const kProfileNote =
    "Times are wall time of one repetition. MB and GOP are what an operation has to do at least: weights once a call, "
    "of the cache each tile of rows once a call, a multiply-add is two operations. \"of limit\" is the least time that "
    "the measured limits allow, of memory or of arithmetic, over the time taken; it passes 100 % where a cache serves "
    "what is counted as memory. Operations that only see activations, which caches hold, have no such limit. A code "
    "that "
    "meets a number of two digits counts as two int8 products.";

double ProfiledTest::seconds() const {
  return std::accumulate(result.seconds.begin(), result.seconds.end(), 0.0) /
         static_cast<double>(result.seconds.size());
}

double ProfiledTest::tokens_per_second() const { return result.sequences * (result.prompt + result.gen) / seconds(); }

ProfileRows profile_rows(const ProfiledTest& test) {
  const double once = 1 / static_cast<double>(test.result.seconds.size());
  const auto row = [&](std::string name, OpKind kind, const Profile::Entry& entry) {
    const Work work = once * entry.work;
    return ProfileRow{.name = std::move(name),
                      .kind = kind,
                      .calls = once * static_cast<double>(entry.calls),
                      .seconds = once * entry.seconds,
                      .work = work};
  };
  ProfileRows rows;
  for (int i = 0; i < kOps; ++i) {
    const Op op{static_cast<std::uint8_t>(i)};
    if (test.profile[op].calls == 0) continue;
    rows.operations.push_back(row(name(op), kind_of(op), test.profile[op]));
    if (has_limit(op)) rows.operations.back().bound = bound(test.limits, rows.operations.back().work);
  }
  rows.total = row("all", OpKind::kOther, test.profile.sum());
  rows.operations.push_back({.name = "other", .seconds = test.seconds() - rows.total.seconds});
  rows.total.seconds = test.seconds();
  rows.total.calls = 0;
  for (const ProfileRow& operation : rows.operations) rows.total.bound.seconds += operation.bound.seconds;
  return rows;
}

std::vector<std::string> profile_titles() {
  return {"operation", "limit", "calls", "ms", "time", "MB", "GOP", "GB/s", "GOP/s", "of limit"};
}

std::vector<std::string> profile_cells(const ProfileRow& row, double total_seconds) {
  const auto number = [](double x, double unit) {
    const double value = x / unit;
    return x == 0 ? std::string()
                  : fmt::format("{:.{}f}", value,
                                value < 0.1   ? 3
                                : value < 10  ? 2
                                : value < 100 ? 1
                                              : 0);
  };
  const Work& work = row.work;
  const bool works = row.bound.seconds > 0;
  return {row.name,
          row.bound.by,
          row.calls > 0 ? fmt::format("{:.0f}", row.calls) : "",
          fmt::format("{:.2f}", row.seconds * 1e3),
          fmt::format("{:.1f} %", 100 * row.seconds / total_seconds),
          number(work.bytes, 1e6),
          number(work.ops(), 1e9),
          number(work.bytes / row.seconds, 1e9),
          number(work.ops() / row.seconds, 1e9),
          works ? fmt::format("{:.0f} %", 100 * row.of_limit()) : ""};
}

std::string test_title(const ProfiledTest& test) {
  const BenchResult& r = test.result;
  std::string text = fmt::format("{}, {}, {} thread{}", test_name(r), r.kv_spec, r.threads, r.threads > 1 ? "s" : "");
  if (r.sequences > 1) text += fmt::format(", {} sequences", r.sequences);
  return text;
}

std::string limits_text(const MachineLimits& limits) {
  return fmt::format("read {:.1f} GB/s, float32 {:.0f}, bf16 {}, int8 {:.0f} GOP/s", limits.read_bytes / 1e9,
                     limits.f32_ops / 1e9, limits.bf16_ops > 0 ? fmt::format("{:.0f}", limits.bf16_ops / 1e9) : "none",
                     limits.int8_ops / 1e9);
}

ProfileReport::ProfileReport(BenchModel model, const std::string& output)
    : model_(std::move(model)), path_(output == "md" ? "" : output) {
  if (!path_.empty()) {
    page_.open(part_path(path_));
    require(page_.is_open(), "{}: cannot be written", path_);
  }
  print_now(fmt::format("{}, {}\n", model_.type, cpu_name()));
}

ProfileReport::~ProfileReport() {
  std::error_code error;  // of no interest: it may be gone
  if (!path_.empty()) std::filesystem::remove(part_path(path_), error);
}

void ProfileReport::add(ProfiledTest test) {
  const ProfileRows found = profile_rows(test);
  std::vector<TableRow> rows;
  for (const ProfileRow& row : found.operations) rows.push_back(profile_cells(row, found.total.seconds));
  rows.push_back(profile_cells(found.total, found.total.seconds));
  print_now(fmt::format("\n{}: {:.2f} tokens/s. Limits: {}\n\n{}", test_title(test), test.tokens_per_second(),
                        limits_text(test.limits), markdown_table(profile_titles(), rows, 2)));
  tests_.push_back(std::move(test));
}

void ProfileReport::finish() {
  print_now(fmt::format("\n{}\n", kProfileNote));
  if (path_.empty()) return;
  page_ << profile_page(model_, tests_);
  page_.close();
  std::error_code error;
  if (page_) std::filesystem::rename(part_path(path_), path_, error);
  require(page_ && !error, "{}: cannot be written", path_);
}

}  // namespace lamina
