// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "model/dequant.h"

namespace lamina {
namespace {

using Bytes = std::vector<std::byte>;

// A file with any header and `data` bytes 0, 1, 2, … behind it. Without `length` the header's true one.
Bytes file_of(std::string_view header, std::size_t data, std::uint64_t length) {
  Bytes bytes(sizeof length + header.size() + data);
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, header.data(), header.size());
  for (std::size_t i = 0; i < data; ++i) bytes[sizeof length + header.size() + i] = static_cast<std::byte>(i);
  return bytes;
}
Bytes file_of(std::string_view header, std::size_t data) { return file_of(header, data, header.size()); }

std::string error_of(const Bytes& bytes) {
  try {
    read_safetensors("m", bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
std::string error_of(std::string_view header, std::size_t data) { return error_of(file_of(header, data)); }

// The error of one tensor "t" with these fields in a file with 16 bytes of data.
std::string error_in(std::string_view fields) { return error_of(fmt::format(R"({{"t":{{{}}}}})", fields), 16); }

// Three tensors, out of order, the middle one at an odd address.
constexpr std::string_view kHeader =
    R"({"b.16":{"dtype":"F16","shape":[2,2],"data_offsets":[4,12]},"__metadata__":{"format":"pt"},)"
    R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"c":{"dtype":"BF16","shape":[1,1,3],"data_offsets":[12,18]}}  )";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  for (const std::string_view space : {"", " "}) {
    const Bytes bytes = file_of(fmt::format("{}{}", kHeader, space), 18);
    const auto tensors = read_safetensors("m", bytes);
    ASSERT_EQ(tensors.size(), 3U);
    EXPECT_EQ(tensors[0].name, "a");
    EXPECT_EQ(tensors[0].type, TensorType::kF32);
    EXPECT_EQ(tensors[1].name, "b.16");
    EXPECT_EQ(tensors[1].type, TensorType::kF16);
    EXPECT_EQ(tensors[1].shape, (std::vector<std::int64_t>{2, 2}));
    EXPECT_EQ(tensors[1].row(1)[0], std::byte{8});
    EXPECT_EQ(tensors[2].type, TensorType::kBF16);
    EXPECT_EQ(tensors[2].rows(), 1);
    EXPECT_EQ(tensors[2].data.data() + 6, bytes.data() + bytes.size());
  }
  EXPECT_TRUE(read_safetensors("m", file_of("{}", 0)).empty());
}

// The sanitizers look on: a header of any length puts the data at any address.
TEST(Safetensors, UnalignedDataIsReadAsItIs) {
  std::string header = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  for (int space = 0; space < 4; ++space, header += ' ') {
    Bytes bytes = file_of(header, 8);
    const std::vector<float> wanted = {1.5F, -2.25F};
    std::memcpy(&bytes[bytes.size() - 8], wanted.data(), 8);
    std::vector<float> values(2);
    dequantize(TensorType::kF32, read_safetensors("m", bytes).front().data, values);
    EXPECT_EQ(values, wanted);
  }
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const Bytes whole = file_of(kHeader, 18);
  ASSERT_EQ(error_of(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(error_of(cut).rfind("m: ", 0), 0U) << size << ": " << error_of(cut);
  }
  EXPECT_EQ(error_of(file_of(kHeader, 17)),
            "m: tensor \"c\": data_offsets end at 18, but the file has only 17 bytes of data");
  EXPECT_EQ(error_of(file_of(kHeader, 19)), "m: the tensors end at byte 18 of the data, expected 19");
}

TEST(Safetensors, EveryByteMayBeAnything) {
  const Bytes whole = file_of(kHeader, 18);
  int errors = 0;
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const int value : {0, 1, int{'"'}, int{'{'}, int{'9'}, 0x7f, 0x80, 0xff}) {
      Bytes changed = whole;
      changed[at] = static_cast<std::byte>(value);
      const std::string error = error_of(changed);
      EXPECT_EQ(error.find('\n'), std::string::npos);
      errors += error != "no error" ? 1 : 0;
    }
  EXPECT_GT(errors, 1000);
}

TEST(Safetensors, WrongHeaders) {
  const std::string cut = ": not a safetensors file or cut short";
  EXPECT_EQ(error_of(Bytes(7)), "m: 7 bytes, expected a safetensors file");
  EXPECT_EQ(error_of(file_of("{}", 0, 3)), "m: a header of 3 bytes, expected at most 2" + cut);
  EXPECT_EQ(error_of(file_of("{}", 0, ~std::uint64_t{0})),
            "m: a header of 18446744073709551615 bytes, expected at most 2" + cut);
  EXPECT_EQ(error_of("{\"t\"", 0), "m: the header: not JSON at byte 4 of 4");
  EXPECT_EQ(error_of("", 0), "m: the header: not JSON at byte 0 of 0");
  EXPECT_EQ(error_of("[1]", 0), "m: the header is [1], expected an object");
  EXPECT_EQ(error_of(std::string(100000, '['), 0), "m: the header: JSON nested deeper than 32");
  EXPECT_EQ(error_of(R"({"t":1e999})", 0), "m: the header: holds a number that is out of range");
  EXPECT_EQ(error_of("{\"t\xff\":1}", 0), "m: the header: not JSON at byte 4 of 8");
  EXPECT_EQ(error_of(R"({"a\nb":1})", 0), "m: a tensor is named \"a\\nb\", expected printable ASCII");
  EXPECT_EQ(error_of(R"({"":1})", 0), "m: a tensor is named \"\", expected printable ASCII");
  EXPECT_EQ(error_of(R"({"t":1,"t":1})", 0), "m: the header: field \"t\" comes twice");
  EXPECT_EQ(error_of(R"({"t":{"dtype":"F32","dtype":"F16"}})", 0), "m: the header: field \"dtype\" comes twice");
}

TEST(Safetensors, WrongTensors) {
  const std::string t = "m: tensor \"t\": ";
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,16])"), "no error");
  EXPECT_EQ(error_of(R"({"t":[]})", 0), t + "is [], expected an object");
  EXPECT_EQ(error_in(R"("shape":[4],"data_offsets":[0,16])"), t + "dtype is missing");
  EXPECT_EQ(error_in(R"("dtype":"F32","data_offsets":[0,16])"), t + "shape is missing");
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[4])"), t + "data_offsets is missing");
  for (const char* type : {"\"F64\"", "\"I8\"", "\"F8_E4M3\"", "\"f32\"", "4", "null"})
    EXPECT_EQ(error_in(fmt::format(R"("dtype":{},"shape":[4],"data_offsets":[0,16])", type)),
              t + "dtype is " + type + ", expected F32, F16 or BF16");
  for (const char* shape : {"[]", "4", "[1,1,1,2,2]"})
    EXPECT_EQ(error_in(fmt::format(R"("dtype":"F32","shape":{},"data_offsets":[0,16])", shape)),
              t + "shape is " + shape + ", expected 1 to 4 dimensions");
  for (const char* shape : {"[0]", "[-4]", "[4.0]", "[\"4\"]", "[9223372036854775808]", "[1,null]"})
    EXPECT_EQ(error_in(fmt::format(R"("dtype":"F32","shape":{},"data_offsets":[0,16])", shape)),
              t + "shape is " + shape + ", expected dimensions from 1 to 2^63-1");
  // 2^31 * 2^31 * 4 bytes wraps to 0.
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[2147483648,2147483648],"data_offsets":[0,0])"),
            t + "shape [2147483648,2147483648] needs more than 2^64 bytes");
  EXPECT_EQ(error_in(R"("dtype":"BF16","shape":[4],"data_offsets":[0,16])"),
            t + "data_offsets hold 16 bytes, shape [4] of BF16 needs 8");
}

TEST(Safetensors, WrongOffsets) {
  const std::string t = "m: tensor \"t\": ";
  for (const char* offsets : {"[16,0]", "[0]", "[0,8,16]", "16", "[-16,0]", "[0,16.0]", "[0,\"16\"]"})
    EXPECT_EQ(error_in(fmt::format(R"("dtype":"F32","shape":[4],"data_offsets":{})", offsets)),
              t + "data_offsets is " + offsets + ", expected [begin, end]");
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[4],"data_offsets":[4,20])"),
            t + "data_offsets end at 20, but the file has only 16 bytes of data");
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[4],"data_offsets":[18446744073709551600,18446744073709551615])"),
            t + "data_offsets end at 18446744073709551615, but the file has only 16 bytes of data");
  EXPECT_EQ(error_in(R"("dtype":"F32","shape":[3],"data_offsets":[4,16])"),
            t + "data_offsets begin at 4, expected 0: the bytes between belong to no tensor");
  const auto two = [](int begin, int end) {
    return error_of(fmt::format(R"({{"s":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},)"
                                R"("t":{{"dtype":"F16","shape":[{}],"data_offsets":[{},{}]}}}})",
                                (end - begin) / 2, begin, end),
                    16);
  };
  EXPECT_EQ(two(8, 16), "no error");
  EXPECT_EQ(two(6, 16), t + "data_offsets begin at 6, where \"s\" ends at 8 only");
  EXPECT_EQ(two(10, 16), t + "data_offsets begin at 10, expected 8: the bytes between belong to no tensor");
  EXPECT_EQ(two(8, 14), "m: the tensors end at byte 14 of the data, expected 16");
}

}  // namespace
}  // namespace lamina
