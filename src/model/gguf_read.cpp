// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_read.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read as the machine stores them");

constexpr std::size_t kNameLimit = 65535;  // bytes of a key (by the specification) or of a tensor's name
constexpr std::uint32_t kDimLimit = 4;
constexpr int kArrayDepthLimit = 4;
constexpr std::size_t kKeyBytes = 13;     // the least that a key and its value take: length, type, one byte
constexpr std::size_t kTensorBytes = 32;  // the least that a tensor's entry takes, with one dimension

// ---- reading: a position in the bytes of one file -------------------------------------------------------------------
class Cursor {
 public:
  Cursor(std::string_view file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }
  std::span<const std::byte> since(std::size_t begin) const { return bytes_.subspan(begin, at_ - begin); }

  // What is being read, for error messages.
  void enter(std::string what) { what_ = std::move(what); }

  template <class... Args>
  void check(bool ok, fmt::format_string<Args...> message, Args&&... args) const {
    if (!ok) fail("{}: {}: {}", file_, what_, fmt::format(message, std::forward<Args>(args)...));
  }

  std::span<const std::byte> take(std::uint64_t size) {
    check(size <= left(), "the file ends at byte {}, expected {} more bytes at byte {}", bytes_.size(), size, at_);
    at_ += size;
    return bytes_.subspan(at_ - size, size);
  }

  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view string() {
    const std::span<const std::byte> text = take(read<std::uint64_t>());
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::string_view file_;
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::string what_;
};

// Keys and tensor names are quoted in one-line messages: printable ASCII only.
std::string read_name(Cursor& in) {
  const std::string_view text = in.string();
  in.check(!text.empty() && text.size() <= kNameLimit, "a name of {} bytes, expected 1 to {}", text.size(), kNameLimit);
  const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  in.check(printable, "a name of {} bytes at byte {} is not printable ASCII", text.size(), in.at() - text.size());
  return std::string(text);
}

// ---- metadata values ------------------------------------------------------------------------------------------------
GgufType read_type(Cursor& in) {
  const auto number = in.read<std::uint32_t>();
  in.check(number <= static_cast<std::uint32_t>(GgufType::kFloat64), "value type {} is unknown, expected 0 to 12",
           number);
  return static_cast<GgufType>(number);
}

bool read_bool(Cursor& in) {
  const auto byte = in.read<std::uint8_t>();
  in.check(byte <= 1, "a boolean is {}, expected 0 or 1", byte);
  return byte == 1;
}

// The size of a fixed-size value; the least size of a string or an array.
std::size_t least_bytes(GgufType type) {
  constexpr std::array<std::size_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return kBytes[static_cast<std::size_t>(type)];
}

GgufArray read_array(Cursor& in, int depth) {
  in.check(depth <= kArrayDepthLimit, "arrays are nested more than {} deep", kArrayDepthLimit);
  GgufArray array;
  array.element_type = read_type(in);
  array.count = in.read<std::uint64_t>();
  in.check(array.count <= in.left() / least_bytes(array.element_type),
           "an array claims {} elements, but only {} bytes are left in the file", array.count, in.left());
  const std::size_t begin = in.at();
  if (array.element_type == GgufType::kString) {
    for (std::uint64_t i = 0; i < array.count; ++i) in.string();
  } else if (array.element_type == GgufType::kArray) {
    for (std::uint64_t i = 0; i < array.count; ++i) read_array(in, depth + 1);
  } else if (array.element_type == GgufType::kBool) {
    for (std::uint64_t i = 0; i < array.count; ++i) read_bool(in);
  } else {
    in.take(array.count * least_bytes(array.element_type));
  }
  array.bytes = in.since(begin);
  return array;
}

GgufValue read_value(Cursor& in, GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return std::uint64_t{in.read<std::uint8_t>()};
    case GgufType::kInt8:
      return std::int64_t{in.read<std::int8_t>()};
    case GgufType::kUint16:
      return std::uint64_t{in.read<std::uint16_t>()};
    case GgufType::kInt16:
      return std::int64_t{in.read<std::int16_t>()};
    case GgufType::kUint32:
      return std::uint64_t{in.read<std::uint32_t>()};
    case GgufType::kInt32:
      return std::int64_t{in.read<std::int32_t>()};
    case GgufType::kFloat32:
      return double{in.read<float>()};
    case GgufType::kBool:
      return read_bool(in);
    case GgufType::kString:
      return in.string();
    case GgufType::kArray:
      return read_array(in, 1);
    case GgufType::kUint64:
      return in.read<std::uint64_t>();
    case GgufType::kInt64:
      return in.read<std::int64_t>();
    case GgufType::kFloat64:
      break;
  }
  return in.read<double>();
}

GgufMetadata read_metadata(Cursor& in, std::uint64_t count) {
  in.check(count <= in.left() / kKeyBytes, "the file claims {} keys, but only {} bytes are left in it", count,
           in.left());
  GgufMetadata metadata;
  for (std::uint64_t i = 0; i < count; ++i) {
    in.enter(fmt::format("key {} of {}", i + 1, count));
    std::string key = read_name(in);
    in.enter(fmt::format("key \"{}\"", key));
    const GgufType type = read_type(in);
    const bool is_new = metadata.emplace(std::move(key), read_value(in, type)).second;
    in.check(is_new, "appears twice");
  }
  return metadata;
}

// ---- tensors --------------------------------------------------------------------------------------------------------
struct TensorEntry {
  TensorView view;           // without its data
  std::uint64_t offset = 0;  // from the start of the data
  std::size_t bytes = 0;
};

std::vector<std::int64_t> read_shape(Cursor& in) {
  const auto dims = in.read<std::uint32_t>();
  in.check(dims >= 1 && dims <= kDimLimit, "has {} dimensions, expected 1 to {}", dims, kDimLimit);
  std::vector<std::int64_t> shape(dims);
  for (std::uint32_t i = 0; i < dims; ++i) {
    const auto size = in.read<std::uint64_t>();
    in.check(size >= 1 && size <= std::uint64_t{std::numeric_limits<std::int64_t>::max()},
             "dimension {} is {}, expected 1 to 2^63-1", i, size);
    shape[dims - 1 - i] = static_cast<std::int64_t>(size);  // the file has the contiguous dimension first
  }
  return shape;
}

std::string supported_types() {
  std::string list;
  for (const TensorType type : tensor_types()) list.append(list.empty() ? "" : " ").append(name(type));
  return list;
}

TensorType read_tensor_type(Cursor& in) {
  const auto number = in.read<std::uint32_t>();
  const auto type = static_cast<TensorType>(number);
  const std::span<const TensorType> known = tensor_types();
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    in.check(false, "type {} is not supported, expected one of {}", number, supported_types());
  }
  return type;
}

std::uint64_t tensor_bytes(const Cursor& in, TensorType type, const std::vector<std::int64_t>& shape) {
  const std::int64_t cols = shape.back();
  const int block = block_weights(type);
  in.check(cols % block == 0, "has rows of {} weights, expected a multiple of {} for {}", cols, block, name(type));
  std::uint64_t bytes = block_bytes(type);
  bool overflow = __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(cols / block), &bytes);
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) {
    overflow |= __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(shape[i]), &bytes);
  }
  in.check(!overflow, "shape [{}] needs more than 2^64 bytes", fmt::join(shape, ","));
  return bytes;
}

TensorEntry read_tensor(Cursor& in) {
  TensorEntry entry;
  entry.view.name = read_name(in);
  in.enter(fmt::format("tensor \"{}\"", entry.view.name));
  entry.view.shape = read_shape(in);
  entry.view.type = read_tensor_type(in);
  entry.bytes = tensor_bytes(in, entry.view.type, entry.view.shape);
  entry.offset = in.read<std::uint64_t>();
  return entry;
}

std::vector<TensorEntry> read_entries(Cursor& in, std::uint64_t count) {
  in.enter("the header");
  in.check(count <= in.left() / kTensorBytes, "the file claims {} tensors, but only {} bytes are left in it", count,
           in.left());
  std::vector<TensorEntry> entries;
  for (std::uint64_t i = 0; i < count; ++i) {
    in.enter(fmt::format("tensor {} of {}", i + 1, count));
    entries.push_back(read_tensor(in));
  }
  return entries;
}

// ---- one file -------------------------------------------------------------------------------------------------------
std::uint64_t alignment(const Cursor& in, const GgufMetadata& metadata) {
  const auto it = metadata.find("general.alignment");
  if (it == metadata.end()) return 32;
  const auto* bytes = std::get_if<std::uint64_t>(&it->second);
  in.check(bytes != nullptr && std::has_single_bit(*bytes), "key \"general.alignment\" is not a power of two");
  return *bytes;
}

void check_start(Cursor& in) {
  in.enter("the header");
  const auto magic = in.read<std::array<char, 4>>();
  in.check(std::string_view(magic.data(), 4) == "GGUF", "starts with bytes {:02x}, expected \"GGUF\" (47 47 55 46)",
           fmt::join(std::span(reinterpret_cast<const std::uint8_t*>(magic.data()), 4), " "));
  const auto version = in.read<std::uint32_t>();
  in.check(version == 0 || (version & 0xffffU) != 0, "the file is big-endian, expected little-endian");
  in.check(version == 2 || version == 3, "GGUF version {}, expected 2 or 3", version);
}

}  // namespace

GgufPart read_gguf(std::string_view file, std::span<const std::byte> bytes) {
  Cursor in(file, bytes);
  check_start(in);
  const auto tensors = in.read<std::uint64_t>();
  const auto keys = in.read<std::uint64_t>();
  GgufPart part;
  part.metadata = read_metadata(in, keys);
  in.enter("the header");
  const std::uint64_t align = alignment(in, part.metadata);
  std::vector<TensorEntry> entries = read_entries(in, tensors);
  const std::uint64_t start = in.at() + (align - in.at() % align) % align;
  const std::uint64_t room = start <= bytes.size() ? bytes.size() - start : 0;
  for (TensorEntry& entry : entries) {
    in.enter(fmt::format("tensor \"{}\"", entry.view.name));
    in.check(entry.offset % align == 0, "offset {} is not a multiple of the alignment {}", entry.offset, align);
    in.check(entry.offset <= room && entry.bytes <= room - entry.offset,
             "{} bytes at offset {} of the data, but the file has only {} bytes of data", entry.bytes, entry.offset,
             room);
    entry.view.data = bytes.subspan(start + entry.offset, entry.bytes);
    part.tensors.push_back(std::move(entry.view));
  }
  return part;
}

void for_each_element(const GgufArray& array, const std::function<void(const GgufValue&)>& visit) {
  Cursor in("array", array.bytes);
  for (std::uint64_t i = 0; i < array.count; ++i) visit(read_value(in, array.element_type));
}

}  // namespace lamina
