// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace lamina {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "lengths are read as the machine stores them");

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // what the format's own library accepts
constexpr std::size_t kMostDims = 4;

struct Entry {
  TensorView view;                   // without its data
  std::uint64_t begin = 0, end = 0;  // from the start of the data
};

// One tensor's entry of the header, for messages.
struct Where {
  std::string_view file;
  std::string_view name;

  template <class... Args>
  void check(bool ok, fmt::format_string<Args...> message, Args&&... args) const {
    if (!ok) fail("{}: tensor \"{}\": {}", file, name, fmt::format(message, std::forward<Args>(args)...));
  }
};

const json& field(const Where& in, const json& entry, const char* key) {
  const auto it = entry.find(key);
  in.check(it != entry.end(), "{} is missing", key);
  return *it;
}

TensorType read_type(const Where& in, const json& value) {
  if (value == "F32") return TensorType::kF32;
  if (value == "F16") return TensorType::kF16;
  in.check(value == "BF16", "dtype is {}, expected F32, F16 or BF16", shown(value));
  return TensorType::kBF16;
}

std::vector<std::int64_t> read_shape(const Where& in, const json& value) {
  in.check(value.is_array() && !value.empty() && value.size() <= kMostDims, "shape is {}, expected 1 to {} dimensions",
           shown(value), kMostDims);
  std::vector<std::int64_t> shape;
  for (const json& size : value) {
    const std::uint64_t number = size.is_number_unsigned() ? size.get<std::uint64_t>() : 0;
    in.check(number >= 1 && number <= std::uint64_t{std::numeric_limits<std::int64_t>::max()},
             "shape is {}, expected dimensions from 1 to 2^63-1", shown(value));
    shape.push_back(static_cast<std::int64_t>(number));
  }
  return shape;
}

std::uint64_t tensor_bytes(const Where& in, const TensorView& view) {
  std::uint64_t bytes = block_bytes(view.type);
  bool overflow = false;
  for (const std::int64_t size : view.shape)
    overflow |= __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes);
  in.check(!overflow, "shape [{}] needs more than 2^64 bytes", fmt::join(view.shape, ","));
  return bytes;
}

// Names are quoted in one-line messages: printable ASCII only.
void check_name(std::string_view file, const std::string& name) {
  const bool printable = std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
  if (!printable || name.empty()) fail("{}: a tensor is named {}, expected printable ASCII", file, shown(name));
}

Entry read_entry(std::string_view file, const std::string& name, const json& value, std::uint64_t data_bytes) {
  check_name(file, name);
  const Where in{file, name};
  in.check(value.is_object(), "is {}, expected an object", shown(value));
  Entry entry;
  entry.view.name = name;
  entry.view.type = read_type(in, field(in, value, "dtype"));
  entry.view.shape = read_shape(in, field(in, value, "shape"));
  const json& offsets = field(in, value, "data_offsets");
  in.check(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
               offsets[1].is_number_unsigned() && offsets[0] <= offsets[1],
           "data_offsets is {}, expected [begin, end]", shown(offsets));
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  in.check(entry.end <= data_bytes, "data_offsets end at {}, but the file has only {} bytes of data", entry.end,
           data_bytes);
  const std::uint64_t bytes = tensor_bytes(in, entry.view);
  in.check(entry.end - entry.begin == bytes, "data_offsets hold {} bytes, shape [{}] of {} needs {}",
           entry.end - entry.begin, fmt::join(entry.view.shape, ","), lamina::name(entry.view.type), bytes);
  return entry;
}

// In the order of their data, each tensor begins where the one before it ends.
void check_order(std::string_view file, const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t end = 0;
  const Entry* before = nullptr;
  for (const Entry& entry : entries) {
    const Where in{file, entry.view.name};
    in.check(entry.begin >= end, "data_offsets begin at {}, where \"{}\" ends at {} only", entry.begin,
             before == nullptr ? "" : before->view.name, end);
    in.check(entry.begin == end, "data_offsets begin at {}, expected {}: the bytes between belong to no tensor",
             entry.begin, end);
    end = entry.end;
    before = &entry;
  }
  require(end == data_bytes, "{}: the tensors end at byte {} of the data, expected {}", file, end, data_bytes);
}

std::string_view header_text(std::string_view file, std::span<const std::byte> bytes) {
  std::uint64_t size = 0;
  require(bytes.size() >= sizeof size, "{}: {} bytes, expected a safetensors file", file, bytes.size());
  std::memcpy(&size, bytes.data(), sizeof size);
  const std::uint64_t room = std::min<std::uint64_t>(bytes.size() - sizeof size, kMostHeaderBytes);
  require(size <= room, "{}: a header of {} bytes, expected at most {}: not a safetensors file or cut short", file,
          size, room);
  return {reinterpret_cast<const char*>(bytes.data()) + sizeof size, size};
}

}  // namespace

std::vector<TensorView> read_safetensors(std::string_view file, std::span<const std::byte> bytes) {
  const std::string_view text = header_text(file, bytes);
  const json header = parse_json(text, fmt::format("{}: the header", file));
  require(header.is_object(), "{}: the header is {}, expected an object", file, shown(header));
  const auto data = bytes.subspan(sizeof(std::uint64_t) + text.size());
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items())
    if (name != "__metadata__") entries.push_back(read_entry(file, name, value, data.size()));
  std::ranges::sort(entries, {}, &Entry::begin);
  check_order(file, entries, data.size());
  std::vector<TensorView> tensors;
  for (Entry& entry : entries) {
    entry.view.data = data.subspan(entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.view));
  }
  return tensors;
}

}  // namespace lamina
