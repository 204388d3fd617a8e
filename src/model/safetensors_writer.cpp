// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors_writer.h"

#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

static_assert(std::endian::native == std::endian::little, "lengths are written as the machine stores them");

std::string_view dtype(TensorType type) {
  assert(type == TensorType::kF32 || type == TensorType::kF16 || type == TensorType::kBF16);
  return name(type);  // both formats call these types the same
}

std::uint64_t bytes_of(const SafetensorsEntry& tensor) {
  std::uint64_t bytes = block_bytes(tensor.type);
  for (const std::int64_t size : tensor.shape) bytes *= static_cast<std::uint64_t>(size);
  return bytes;
}

struct Header {
  std::string text;
  std::uint64_t data_bytes = 0;
};

Header make_header(std::span<const SafetensorsEntry> tensors) {
  Header header;
  nlohmann::ordered_json json;
  json["__metadata__"] = {{"format", "pt"}};  // transformers loads no file without it
  for (const SafetensorsEntry& tensor : tensors) {
    const std::uint64_t begin = header.data_bytes;
    header.data_bytes += bytes_of(tensor);
    assert(!json.contains(tensor.name));
    json[tensor.name] = {
        {"dtype", dtype(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {begin, header.data_bytes}}};
  }
  header.text = json.dump();
  header.text.resize((header.text.size() + 7) / 8 * 8, ' ');  // aligns the data
  return header;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, std::span<const SafetensorsEntry> tensors)
    : path_(std::move(path)), file_(std::fopen(path_.c_str(), "wb")) {
  if (file_ == nullptr) refuse();
  const Header header = make_header(tensors);
  const std::uint64_t size = header.text.size();
  total_ = sizeof size + size + header.data_bytes;
  put(&size, sizeof size);
  put(header.text.data(), header.text.size());
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) { put(bytes.data(), bytes.size()); }

void SafetensorsWriter::put(const void* bytes, std::size_t size) {
  written_ += size;
  assert(written_ <= total_);
  if (std::fwrite(bytes, 1, size, file_.get()) != size) refuse();
}

std::uint64_t SafetensorsWriter::finish() {
  assert(written_ == total_);
  if (std::fclose(file_.release()) != 0) refuse();
  return total_;
}

void SafetensorsWriter::refuse() const { fail("{}: cannot be written: {}", path_, std::strerror(errno)); }

}  // namespace lamina
