// SPDX-License-Identifier: Apache-2.0
// What is written is read back by our own reader, whose tests hold it to the format.
#include "model/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/safetensors.h"

namespace lamina {
namespace {

const std::string kPath = testing::TempDir() + "lamina_writer.safetensors";

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(SafetensorsWriter, ReaderFindsWhatWasWritten) {
  const std::vector<SafetensorsEntry> entries = {
      {"z.weight", TensorType::kF32, {2, 1}}, {"a.weight", TensorType::kF16, {3}}, {"m", TensorType::kBF16, {1, 2}}};
  SafetensorsWriter writer(kPath, entries);
  writer.write(bytes_of("01234"));
  writer.write(bytes_of("567abcdefAB"));
  writer.write(bytes_of("CD"));
  const std::uint64_t size_written = writer.finish();
  EXPECT_EQ(size_written, std::filesystem::file_size(kPath));
  const MappedFile file(kPath);
  const auto read = read_safetensors(kPath, file.bytes());
  ASSERT_EQ(read.size(), 3U);
  const std::vector<std::string_view> expected = {"01234567", "abcdef", "ABCD"};
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].name, entries[i].name);
    EXPECT_EQ(read[i].type, entries[i].type);
    EXPECT_EQ(read[i].shape, entries[i].shape);
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(read[i].data.data()), read[i].data.size()), expected[i]);
  }
  // transformers asks for the metadata; the data begin at a multiple of 8.
  std::uint64_t size = 0;
  std::memcpy(&size, file.bytes().data(), sizeof size);
  EXPECT_EQ(size % 8, 0U);
  const std::string_view header(reinterpret_cast<const char*>(file.bytes().data()) + 8, size);
  EXPECT_TRUE(header.starts_with(R"({"__metadata__":{"format":"pt"},"z.weight":)")) << header;
  std::filesystem::remove(kPath);
}

std::string error_of(const std::string& path) {
  try {
    const SafetensorsEntry entry{"a", TensorType::kF32, {1 << 16}};
    SafetensorsWriter writer(path, {&entry, 1});
    const std::vector<std::byte> row(1 << 10);
    for (int i = 0; i < 1 << 8; ++i) writer.write(row);
    writer.finish();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SafetensorsWriter, NamesTheFileThatCannotBeWritten) {
  EXPECT_EQ(error_of("/dev/full"), "/dev/full: cannot be written: No space left on device");
  EXPECT_EQ(error_of(testing::TempDir() + "none/x"),
            testing::TempDir() + "none/x: cannot be written: No such file or directory");
}

}  // namespace
}  // namespace lamina
