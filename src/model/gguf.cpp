// SPDX-License-Identifier: Apache-2.0
#include "model/gguf.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/gguf_read.h"

namespace lamina {
namespace {

// ---- conversion of values: nothing if the value is of another type or out of range ----------------------------------
std::optional<std::int64_t> as_integer(const GgufValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  const auto* number = std::get_if<std::uint64_t>(&value);
  if (number == nullptr || *number > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

std::optional<double> as_number(const GgufValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<float> as_float(const GgufValue& value) {
  const std::optional<double> number = as_number(value);
  const bool fits = number && (!std::isfinite(*number) || std::abs(*number) <= std::numeric_limits<float>::max());
  return fits ? std::optional(static_cast<float>(*number)) : std::nullopt;
}

template <class T>
std::optional<T> as(const GgufValue& value) {
  const T* found = std::get_if<T>(&value);
  return found != nullptr ? std::optional(*found) : std::nullopt;
}

constexpr std::string_view kInteger = "an integer below 2^63";
constexpr std::string_view kNumber = "a number";
constexpr std::string_view kFloat = "a number in float32's range";
constexpr std::string_view kBoolean = "a boolean";
constexpr std::string_view kString = "a string";

std::string describe(const GgufValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) return fmt::format("the boolean {}", *boolean);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return fmt::format("the integer {}", *number);
  if (const auto* number = std::get_if<std::uint64_t>(&value)) return fmt::format("the integer {}", *number);
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("the number {}", *number);
  return std::holds_alternative<GgufArray>(value) ? "an array" : "a string";
}

template <class T>
T scalar(std::string_view file, std::string_view key, const GgufValue& value,
         std::optional<T> (*convert)(const GgufValue&), std::string_view wanted) {
  const std::optional<T> result = convert(value);
  if (!result) fail("{}: key \"{}\" is {}, expected {}", file, key, describe(value), wanted);
  return *result;
}

template <class T>
std::vector<T> elements(std::string_view file, std::string_view key, const GgufValue& value,
                        std::optional<T> (*convert)(const GgufValue&), std::string_view wanted) {
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) return {scalar(file, key, value, convert, wanted)};
  std::vector<T> list;
  list.reserve(array->count);
  for_each_element(*array, [&](const GgufValue& element) {
    const std::optional<T> result = convert(element);
    if (!result) {
      fail("{}: key \"{}\": element {} is {}, expected {}", file, key, list.size(), describe(element), wanted);
    }
    list.push_back(*result);
  });
  return list;
}

// ---- split files ----------------------------------------------------------------------------------------------------
struct SplitName {  // NAME-00001-of-00003.gguf
  std::string prefix;
  int part = 0;  // from 1
  int parts = 0;

  std::string path(int number) const { return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number, parts); }
};

std::optional<SplitName> split_name(const std::string& path) {
  constexpr std::size_t kSuffix = 20;  // of "-00001-of-00003.gguf"
  if (path.size() <= kSuffix) return std::nullopt;
  const std::string_view suffix = std::string_view(path).substr(path.size() - kSuffix);
  SplitName split{path.substr(0, path.size() - kSuffix)};
  std::from_chars(suffix.data() + 1, suffix.data() + 6, split.part);
  std::from_chars(suffix.data() + 10, suffix.data() + 15, split.parts);
  if (split.parts < 1 || split.path(split.part) != path) return std::nullopt;
  return split;
}

void check_split(std::string_view file, const GgufMetadata& metadata, int part, int parts) {
  const auto found = [&](std::string_view key, std::int64_t fallback) {
    const auto it = metadata.find(key);
    return it == metadata.end() ? fallback : scalar(file, key, it->second, as_integer, kInteger);
  };
  // A merged file may keep a count of 0.
  const std::int64_t count = std::max<std::int64_t>(found("split.count", 1), 1);
  require(count == parts, "{}: key \"split.count\" is {}, but the file's name says {} (NAME-00001-of-000NN.gguf)", file,
          count, parts);
  const std::int64_t number = found("split.no", 0);
  require(number == part, "{}: key \"split.no\" is {}, expected {}", file, number, part);
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  const std::optional<SplitName> split = split_name(path);
  if (split && split->part != 1) fail("{}: is not the first part of its model, expected {}", path, split->path(1));
  const int parts = split ? split->parts : 1;
  GgufFile file(path);
  for (int part = 0; part < parts; ++part) {
    const std::string part_path = split ? split->path(part + 1) : path;
    file.files_.emplace_back(part_path);
    file.add_part(part_path, file.files_.back().bytes(), part, parts);
  }
  if (parts > 1) {
    const std::int64_t expected = file.integer("split.tensors.count");
    require(std::cmp_equal(file.tensors_.size(), expected), "{}: {} parts hold {} tensors, split.tensors.count says {}",
            path, parts, file.tensors_.size(), expected);
  }
  return file;
}

GgufFile GgufFile::parse(const std::string& name, std::span<const std::byte> bytes) {
  GgufFile file(name);
  file.add_part(file.path_, bytes, 0, 1);
  return file;
}

void GgufFile::add_part(const std::string& part_path, std::span<const std::byte> bytes, int part, int parts) {
  GgufPart read = read_gguf(part_path, bytes);
  check_split(part_path, read.metadata, part, parts);
  for (TensorView& view : read.tensors) tensors_.add(std::move(view), part_path);
  if (part == 0) metadata_ = std::move(read.metadata);  // later parts only repeat what the first one says
  file_bytes_ += bytes.size();
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const auto it = metadata_.find(key);
  require(it != metadata_.end(), "{}: key \"{}\" is missing", path_, key);
  return it->second;
}

std::int64_t GgufFile::integer(std::string_view key) const {
  return scalar(path_, key, value(key), as_integer, kInteger);
}
double GgufFile::number(std::string_view key) const { return scalar(path_, key, value(key), as_number, kNumber); }
bool GgufFile::boolean(std::string_view key) const { return scalar(path_, key, value(key), as<bool>, kBoolean); }
std::string_view GgufFile::string(std::string_view key) const {
  return scalar(path_, key, value(key), as<std::string_view>, kString);
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}
double GgufFile::number(std::string_view key, double fallback) const { return has(key) ? number(key) : fallback; }
bool GgufFile::boolean(std::string_view key, bool fallback) const { return has(key) ? boolean(key) : fallback; }
std::string_view GgufFile::string(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : fallback;
}

std::vector<std::string_view> GgufFile::strings(std::string_view key) const {
  return elements(path_, key, value(key), as<std::string_view>, kString);
}
std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  return elements(path_, key, value(key), as_integer, kInteger);
}
std::vector<float> GgufFile::numbers(std::string_view key) const {
  return elements(path_, key, value(key), as_float, kFloat);
}
std::vector<bool> GgufFile::booleans(std::string_view key) const {
  return elements(path_, key, value(key), as<bool>, kBoolean);
}

void GgufFile::release_pages() const {
  for (const MappedFile& file : files_) file.release_pages();
}

}  // namespace lamina
