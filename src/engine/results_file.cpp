// SPDX-License-Identifier: Apache-2.0
#include "engine/results_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSchema = "lamina.compare/1";
constexpr std::string_view kBegin = "{\"schema\":\"lamina.compare/1\"";  // of each line

struct OriginField {
  const char* name;
  std::string ResultsOrigin::*value;
};
constexpr std::array<OriginField, 6> kOrigin{{{"model", &ResultsOrigin::model},
                                              {"model_id", &ResultsOrigin::model_id},
                                              {"version", &ResultsOrigin::version},
                                              {"machine", &ResultsOrigin::machine},
                                              {"suite", &ResultsOrigin::suite},
                                              {"data", &ResultsOrigin::data}}};

std::string line_of(const ResultsOrigin& origin, const Result& result) {
  Json line = {{"schema", kSchema}};
  for (const OriginField& field : kOrigin) line[field.name] = origin.*field.value;
  line["kv_spec"] = result.kv_spec;
  line["kv_key"] = result.kv_key;
  line["measurement"] = result.measurement;
  line["values"] = result.values;
  line["timing"] = result.timing;
  // Texts that a model says may end within a character.
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string text_of(const Json& line, const char* field, const std::string& where) {
  const auto value = line.find(field);
  require(value != line.end() && value->is_string(), "{}: \"{}\" is not a text: this is no line of compare's results",
          where, field);
  return value->get<std::string>();
}

Result read_line(std::string_view text, const ResultsOrigin& origin, const std::string& where) {
  parse_json(text, where);  // its checks; the order of keys is kept by the other type only
  const Json line = Json::parse(text);
  require(line.is_object(), "{}: not a JSON object: this is no line of compare's results", where);
  const std::string schema = text_of(line, "schema", where);
  require(schema == kSchema, "{}: \"schema\" is {}, expected \"{}\"", where, shown(schema), kSchema);
  for (const OriginField& field : kOrigin) {
    const std::string found = text_of(line, field.name, where);
    require(found == origin.*field.value, "{}: \"{}\" is {}, this run's is {}: give it another --results file", where,
            field.name, shown(found), shown(origin.*field.value));
  }
  const auto object = [&](const char* field) {
    const auto value = line.find(field);
    require(value != line.end() && value->is_object(), "{}: \"{}\" is not an object", where, field);
    return *value;
  };
  return {.kv_spec = text_of(line, "kv_spec", where),
          .kv_key = text_of(line, "kv_key", where),
          .measurement = text_of(line, "measurement", where),
          .values = object("values"),
          .timing = object("timing")};
}

std::string all_of(int file, std::size_t bytes, const std::string& path) {
  std::string text(bytes, '\0');
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t n = ::pread(file, text.data() + at, bytes - at, static_cast<off_t>(at));
    require(n > 0, "{}: cannot be read: {}", path, n < 0 ? std::strerror(errno) : "it has become shorter");
    at += static_cast<std::size_t>(n);
  }
  return text;
}

}  // namespace

ResultsFile::ResultsFile(std::string path, ResultsOrigin origin) : path_(std::move(path)), origin_(std::move(origin)) {
  open();
  try {
    read();
  } catch (...) {
    ::close(file_);
    throw;
  }
}

ResultsFile::~ResultsFile() { ::close(file_); }

void ResultsFile::open() {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
  check(file_ >= 0, "cannot be written");
  struct stat status {};
  const bool is_file = ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
  const bool is_free = is_file && ::flock(file_, LOCK_EX | LOCK_NB) == 0;
  if (is_free) return;
  ::close(file_);
  require(is_file, "{}: not a regular file, expected one for results", path_);
  fail("{}: another process is writing results to it", path_);
}

void ResultsFile::read() {
  struct stat status {};
  check(::fstat(file_, &status) == 0, "cannot be read");
  const std::string text = all_of(file_, static_cast<std::size_t>(status.st_size), path_);
  std::size_t line = 0, at = 0;
  for (std::size_t end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    results_.push_back(
        read_line(std::string_view(text).substr(at, end - at), origin_, fmt::format("{}: line {}", path_, ++line)));
  const std::string_view torn = std::string_view(text).substr(at), begin = torn.substr(0, kBegin.size());
  require(begin == kBegin.substr(0, begin.size()), "{}: line {}: this is no line of compare's results", path_,
          line + 1);
  if (!torn.empty()) check(::ftruncate(file_, static_cast<off_t>(at)) == 0, "cannot be written");
}

const Result* ResultsFile::find(std::string_view kv_key, std::string_view measurement) const {
  const auto found = std::ranges::find_if(
      results_, [&](const Result& r) { return r.kv_key == kv_key && r.measurement == measurement; });
  return found == results_.end() ? nullptr : &*found;
}

void ResultsFile::append(const Result& result) {
  const std::string line = line_of(origin_, result);
  const off_t before = ::lseek(file_, 0, SEEK_END);
  std::size_t at = 0;
  while (at < line.size()) {
    const ssize_t n = ::write(file_, line.data() + at, line.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  if (at < line.size() || ::fdatasync(file_) != 0) {
    const int why = errno;
    if (::ftruncate(file_, before) != 0) errno = 0;  // what is left of the line the next run drops
    errno = why;
    check(false, "cannot be written");
  }
  // As a later run will read it: what is printed now must be what is printed then.
  results_.push_back(read_line(std::string_view(line).substr(0, line.size() - 1), origin_, path_));
}

void ResultsFile::check(bool ok, std::string_view what) const {
  require(ok, "{}: {}: {}", path_, what, std::strerror(errno));
}

}  // namespace lamina
