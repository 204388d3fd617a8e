// SPDX-License-Identifier: Apache-2.0
#include "model/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"

namespace lamina {
namespace {

using Bytes = std::vector<std::byte>;

// Writes any bytes that a test wants, right or wrong.
class Writer {
 public:
  explicit Writer(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    raw("GGUF").add(version).add(tensors).add(keys);
  }
  template <class T>
  Writer& add(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
    return *this;
  }
  Writer& raw(std::string_view text) {
    for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Writer& string(std::string_view text) { return add(std::uint64_t{text.size()}).raw(text); }
  Writer& key(std::string_view name, GgufType type) { return string(name).add(type); }
  template <class T>
  Writer& key(std::string_view name, GgufType type, T value) {
    return key(name, type).add(value);
  }
  Writer& text(std::string_view name, std::string_view value) { return key(name, GgufType::kString).string(value); }
  Writer& array(GgufType element, std::uint64_t count) { return add(element).add(count); }
  // dims: the contiguous one first, as in the file.
  Writer& tensor(std::string_view name, const std::vector<std::uint64_t>& dims, TensorType type, std::uint64_t offset) {
    string(name).add(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) add(dim);
    return add(type).add(offset);
  }
  Writer& pad(std::size_t alignment = 32) {
    while (bytes.size() % alignment != 0) bytes.push_back({});
    return *this;
  }
  Writer& data(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(i));
    return *this;
  }

  Bytes bytes;
};

template <class Fn>
std::string error_in(Fn&& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of(const Bytes& bytes) {
  return error_in([&] { GgufFile::parse("model.gguf", bytes); });
}

// One key of each kind and two tensors.
Writer small_file(std::uint32_t version = 3) {
  Writer out(2, 8, version);
  out.text("general.architecture", "llama");
  out.key("u", GgufType::kUint32, std::uint32_t{7});
  out.key("i", GgufType::kInt8, std::int8_t{-7});
  out.key("f", GgufType::kFloat32, 0.5F);
  out.key("b", GgufType::kBool, std::uint8_t{1});
  out.key("strings", GgufType::kArray).array(GgufType::kString, 2).string("a").string("");
  out.key("integers", GgufType::kArray).array(GgufType::kInt16, 3).add<short>(1).add<short>(-2).add<short>(3);
  out.key("nested", GgufType::kArray).array(GgufType::kArray, 1).array(GgufType::kBool, 2).add<short>(0x100);
  out.tensor("blk.3.attn_k.weight", {32, 3}, TensorType::kQ8_0, 0);
  out.tensor("norm", {4}, TensorType::kF32, 128);
  return out.pad().data(3 * 34).pad().data(16);
}

TEST(Gguf, ReadsValuesAndTensors) {
  for (const std::uint32_t version : {2U, 3U}) {
    const Bytes bytes = small_file(version).bytes;
    const GgufFile file = GgufFile::parse("model.gguf", bytes);
    EXPECT_EQ(file.string("general.architecture"), "llama");
    EXPECT_EQ(file.integer("u"), 7);
    EXPECT_EQ(file.integer("i"), -7);
    EXPECT_EQ(file.number("f"), 0.5);
    EXPECT_EQ(file.number("i"), -7.0);
    EXPECT_TRUE(file.boolean("b"));
    EXPECT_EQ(file.strings("strings"), (std::vector<std::string_view>{"a", ""}));
    EXPECT_EQ(file.integers("integers"), (std::vector<std::int64_t>{1, -2, 3}));
    EXPECT_EQ(file.numbers("integers"), (std::vector<float>{1, -2, 3}));
    EXPECT_EQ(file.integers("u"), std::vector<std::int64_t>{7});
    EXPECT_EQ(file.booleans("b"), std::vector<bool>{true});
    EXPECT_EQ(std::get<GgufArray>(file.metadata().at("nested")).count, 1U);
    EXPECT_EQ(file.file_bytes(), bytes.size());
    const TensorView& matrix = file.tensor("blk.3.attn_k.weight", {3, 32});
    EXPECT_EQ(matrix.rows(), 3);
    EXPECT_EQ(matrix.cols(), 32);
    EXPECT_EQ(matrix.data.size(), 3U * 34U);
    EXPECT_EQ(matrix.row(2)[0], std::byte{68});
    EXPECT_EQ(file.tensor("norm", {4}).data.data() - matrix.data.data(), 128);
    EXPECT_EQ(file.find("absent"), nullptr);
  }
}

TEST(Gguf, FallbacksAreForMissingKeysOnly) {
  const Bytes bytes = small_file().bytes;
  const GgufFile file = GgufFile::parse("model.gguf", bytes);
  EXPECT_EQ(file.integer("absent", 3), 3);
  EXPECT_EQ(file.number("absent", 0.25), 0.25);
  EXPECT_EQ(file.string("absent", "x"), "x");
  EXPECT_TRUE(file.boolean("absent", true));
  EXPECT_EQ(file.integer("u", 3), 7);
  EXPECT_THROW(file.integer("f", 3), Error);
  EXPECT_THROW(file.boolean("u", true), Error);
}

TEST(Gguf, LookUpErrorsNameFileKeyFoundAndExpected) {
  const Bytes bytes = small_file().bytes;
  const GgufFile file = GgufFile::parse("model.gguf", bytes);
  EXPECT_EQ(error_in([&] { file.integer("absent"); }), "model.gguf: key \"absent\" is missing");
  EXPECT_EQ(error_in([&] { file.integer("general.architecture"); }),
            "model.gguf: key \"general.architecture\" is a string, expected an integer below 2^63");
  EXPECT_EQ(error_in([&] { file.string("u"); }), "model.gguf: key \"u\" is the integer 7, expected a string");
  EXPECT_EQ(error_in([&] { file.number("strings"); }), "model.gguf: key \"strings\" is an array, expected a number");
  EXPECT_EQ(error_in([&] { file.integers("strings"); }),
            "model.gguf: key \"strings\": element 0 is a string, expected an integer below 2^63");
  EXPECT_EQ(error_in([&] { file.strings("integers"); }),
            "model.gguf: key \"integers\": element 0 is the integer 1, expected a string");
  EXPECT_EQ(error_in([&] { file.booleans("nested"); }),
            "model.gguf: key \"nested\": element 0 is an array, expected a boolean");
  EXPECT_EQ(error_in([&] { file.tensor("absent"); }), "model.gguf: tensor \"absent\" is missing");
  EXPECT_EQ(error_in([&] {
              file.tensor("blk.3.attn_k.weight", {3, 64});
            }),
            "model.gguf: tensor \"blk.3.attn_k.weight\" is [3,32], expected [3,64]");
  EXPECT_EQ(error_in([&] { file.tensor("norm", {1, 4}); }), "model.gguf: tensor \"norm\" is [4], expected [1,4]");
}

TEST(Gguf, NumbersOutOfRangeAreErrors) {
  Writer out(0, 2);
  out.key("big", GgufType::kUint64, std::numeric_limits<std::uint64_t>::max());
  out.key("huge", GgufType::kArray).array(GgufType::kFloat64, 2).add(1.0).add(1e300);
  const GgufFile file = GgufFile::parse("model.gguf", out.bytes);
  EXPECT_EQ(error_in([&] { file.integer("big"); }),
            "model.gguf: key \"big\" is the integer 18446744073709551615, expected an integer below 2^63");
  EXPECT_EQ(error_in([&] { file.numbers("huge"); }),
            "model.gguf: key \"huge\": element 1 is the number 1e+300, expected a number in float32's range");
}

TEST(Gguf, EveryTruncationIsAnErrorOrAWholeFile) {
  const Bytes whole = small_file().bytes;
  ASSERT_EQ(error_of(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A copy of its own, so that the sanitizers see a read past the end.
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(error_of(cut).rfind("model.gguf: ", 0), 0U) << size << ": " << error_of(cut);
  }
}

TEST(Gguf, EveryByteMayBeAnything) {
  const Bytes whole = small_file().bytes;
  int errors = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff}) {
      Bytes changed = whole;
      changed[at] = static_cast<std::byte>(value);
      const std::string error = error_of(changed);
      EXPECT_EQ(error.find('\n'), std::string::npos);
      errors += error != "no error" ? 1 : 0;
    }
  }
  EXPECT_GT(errors, 500);
}

TEST(Gguf, WrongStart) {
  EXPECT_EQ(error_of({}), "model.gguf: the header: the file ends at byte 0, expected 4 more bytes at byte 0");
  Writer zip(0, 0);
  std::memcpy(zip.bytes.data(), "PK\3\4", 4);
  EXPECT_EQ(error_of(zip.bytes),
            "model.gguf: the header: starts with bytes 50 4b 03 04, expected \"GGUF\" (47 47 55 46)");
  EXPECT_EQ(error_of(Writer(0, 0, 1).bytes), "model.gguf: the header: GGUF version 1, expected 2 or 3");
  EXPECT_EQ(error_of(Writer(0, 0, 4).bytes), "model.gguf: the header: GGUF version 4, expected 2 or 3");
  EXPECT_EQ(error_of(Writer(0, 0, 0x03000000U).bytes),
            "model.gguf: the header: the file is big-endian, expected little-endian");
}

TEST(Gguf, LyingCounts) {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(error_of(Writer(0, kMax).bytes),
            "model.gguf: the header: the file claims 18446744073709551615 keys, but only 0 bytes are left in it");
  EXPECT_EQ(error_of(Writer(kMax, 0).bytes),
            "model.gguf: the header: the file claims 18446744073709551615 tensors, but only 0 bytes are left in it");
  Writer list(0, 1);
  list.key("k", GgufType::kArray).array(GgufType::kUint64, kMax / 8 + 2).data(64);  // count * 8 wraps to 8
  EXPECT_EQ(error_of(list.bytes),
            "model.gguf: key \"k\": an array claims 2305843009213693953 elements, but only 64 bytes are left in the "
            "file");
  Writer text(0, 1);
  text.key("k", GgufType::kString).add(kMax).data(64);
  EXPECT_EQ(error_of(text.bytes),
            "model.gguf: key \"k\": the file ends at byte 109, expected 18446744073709551615 more bytes at byte 45");
}

TEST(Gguf, WrongMetadata) {
  EXPECT_EQ(error_of(Writer(0, 1).key("k", GgufType{13}, std::uint64_t{0}).bytes),
            "model.gguf: key \"k\": value type 13 is unknown, expected 0 to 12");
  EXPECT_EQ(error_of(Writer(0, 1).key("k", GgufType::kBool, std::uint8_t{2}).bytes),
            "model.gguf: key \"k\": a boolean is 2, expected 0 or 1");
  EXPECT_EQ(error_of(Writer(0, 2).text("k", "a").text("k", "b").bytes), "model.gguf: key \"k\": appears twice");
  EXPECT_EQ(error_of(Writer(0, 1).text("", "abcdef").bytes),
            "model.gguf: key 1 of 1: a name of 0 bytes, expected 1 to 65535");
  EXPECT_EQ(error_of(Writer(0, 1).text("a\nb", "abcdef").bytes),
            "model.gguf: key 1 of 1: a name of 3 bytes at byte 32 is not printable ASCII");
  Writer deep(0, 1);
  deep.key("k", GgufType::kArray);
  for (int depth = 0; depth < 4; ++depth) deep.array(GgufType::kArray, 1);
  EXPECT_EQ(error_of(deep.array(GgufType::kUint8, 0).bytes),
            "model.gguf: key \"k\": arrays are nested more than 4 deep");
}

TEST(Gguf, WrongTensors) {
  const std::string prefix = "model.gguf: tensor \"t\": ";
  const auto one = [&](const std::vector<std::uint64_t>& dims, TensorType type, std::uint64_t offset,
                       std::size_t bytes) {
    const std::string error = error_of(Writer(1, 0).tensor("t", dims, type, offset).pad().data(bytes).bytes);
    return error.substr(error.rfind(prefix, 0) == 0 ? prefix.size() : 0);
  };
  EXPECT_EQ(one({4}, TensorType::kF32, 0, 16), "no error");
  EXPECT_EQ(one({4}, TensorType::kF32, 0, 15),
            "16 bytes at offset 0 of the data, but the file has only 15 bytes of data");
  EXPECT_EQ(one({4}, TensorType::kF32, 32, 47),
            "16 bytes at offset 32 of the data, but the file has only 47 bytes of data");
  EXPECT_EQ(one({4}, TensorType::kF32, 0 - std::uint64_t{32}, 64),
            "16 bytes at offset 18446744073709551584 of the data, but the file has only 64 bytes of data");
  EXPECT_EQ(one({4}, TensorType::kF32, 16, 64), "offset 16 is not a multiple of the alignment 32");
  EXPECT_EQ(one({4}, TensorType{16}, 0, 64),
            "type 16 is not supported, expected one of F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K "
            "Q3_K Q4_K Q5_K Q6_K IQ4_NL MXFP4");
  EXPECT_EQ(one({48}, TensorType::kQ4_0, 0, 64), "has rows of 48 weights, expected a multiple of 32 for Q4_0");
  EXPECT_EQ(one({4, 0}, TensorType::kF32, 0, 64), "dimension 1 is 0, expected 1 to 2^63-1");
  EXPECT_EQ(one({4, std::uint64_t{1} << 63}, TensorType::kF32, 0, 64),
            "dimension 1 is 9223372036854775808, expected 1 to 2^63-1");
  EXPECT_EQ(one({}, TensorType::kF32, 0, 64), "has 0 dimensions, expected 1 to 4");
  EXPECT_EQ(one({1, 1, 1, 1, 1}, TensorType::kF32, 0, 64), "has 5 dimensions, expected 1 to 4");
  // 2^31 * 2^31 * 4 bytes wraps to 0.
  constexpr std::uint64_t kLarge = std::uint64_t{1} << 31;
  EXPECT_EQ(one({kLarge, kLarge}, TensorType::kF32, 0, 64), "shape [2147483648,2147483648] needs more than 2^64 bytes");
  EXPECT_EQ(one({kLarge, 1, kLarge}, TensorType::kF32, 0, 64),
            "shape [2147483648,1,2147483648] needs more than 2^64 bytes");
  // Offset plus size wraps to 0.
  EXPECT_EQ(one({(std::uint64_t{1} << 62) - 16}, TensorType::kF32, 64, 128),
            "18446744073709551552 bytes at offset 64 of the data, but the file has only 128 bytes of data");
  Writer twice(2, 0);
  twice.tensor("t", {1}, TensorType::kF32, 0).tensor("t", {1}, TensorType::kF32, 0).pad().data(4);
  EXPECT_EQ(error_of(twice.bytes), "model.gguf: tensor \"t\" appears twice");
}

TEST(Gguf, AMergedFileMayKeepASplitCountOfZero) {
  const auto file = [](std::uint16_t count) { return Writer(0, 1).key("split.count", GgufType::kUint16, count); };
  for (const std::uint16_t count : {0, 1}) EXPECT_EQ(error_of(file(count).bytes), "no error");
  EXPECT_EQ(error_of(file(3).bytes),
            "model.gguf: key \"split.count\" is 3, but the file's name says 1 (NAME-00001-of-000NN.gguf)");
}

TEST(Gguf, AlignmentIsHonoured) {
  const auto file = [](std::uint32_t alignment) {
    Writer out(1, 1);
    out.key("general.alignment", GgufType::kUint32, alignment);
    return out.tensor("t", {1}, TensorType::kF32, 0);
  };
  for (const std::uint32_t alignment : {1U, 8U, 256U}) {
    Writer out = file(alignment);
    out.pad(alignment);
    const std::size_t start = out.bytes.size();
    out.add(1.5F);
    const GgufFile parsed = GgufFile::parse("model.gguf", out.bytes);
    EXPECT_EQ(static_cast<std::size_t>(parsed.tensor("t").data.data() - out.bytes.data()), start);
  }
  for (const std::uint32_t alignment : {0U, 24U}) {
    EXPECT_EQ(error_of(file(alignment).pad().data(64).bytes),
              "model.gguf: the header: key \"general.alignment\" is not a power of two");
  }
}

// ---- files ----------------------------------------------------------------------------------------------------------
class GgufOnDisk : public testing::Test {
 protected:
  GgufOnDisk() { std::filesystem::create_directories(folder_); }
  ~GgufOnDisk() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const Bytes& bytes) const {
    std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

  // A part with one tensor; the first one also says which architecture it is.
  static Writer part(std::uint16_t number, std::uint16_t count, std::int32_t tensors, std::string_view tensor) {
    Writer out(1, number == 0 ? 4 : 3);
    if (number == 0) out.text("general.architecture", "llama");
    out.key("split.no", GgufType::kUint16, number).key("split.count", GgufType::kUint16, count);
    out.key("split.tensors.count", GgufType::kInt32, tensors);
    return out.tensor(tensor, {1}, TensorType::kF32, 0).pad().add(static_cast<float>(number));
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(GgufOnDisk, SplitFilesAreJoined) {
  const Bytes first = part(0, 2, 2, "a").bytes;
  const Bytes second = part(1, 2, 2, "b").bytes;
  const std::string path = write("m-00001-of-00002.gguf", first);
  EXPECT_NE(error_in([&] { GgufFile::open(path); }).find("m-00002-of-00002.gguf: cannot open"), std::string::npos);
  const std::string second_path = write("m-00002-of-00002.gguf", second);
  const GgufFile file = GgufFile::open(path);
  EXPECT_EQ(file.path(), path);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  ASSERT_EQ(file.tensors().size(), 2U);
  float value = 0;
  std::memcpy(&value, file.tensor("b", {1}).data.data(), sizeof value);
  EXPECT_EQ(value, 1.0F);
  EXPECT_EQ(file.file_bytes(), first.size() + second.size());
  EXPECT_EQ(error_in([&] { GgufFile::open(second_path); }),
            second_path + ": is not the first part of its model, expected " + path);
}

TEST_F(GgufOnDisk, SplitFilesThatDoNotFitAreErrors) {
  const std::string path = write("m-00001-of-00002.gguf", part(0, 2, 2, "a").bytes);
  const auto error_with_second = [&](const Bytes& second) {
    const std::string second_path = write("m-00002-of-00002.gguf", second);
    const std::string error = error_in([&] { GgufFile::open(path); });
    return error.rfind(second_path, 0) == 0 ? error.substr(second_path.size()) : error;
  };
  EXPECT_EQ(error_with_second(part(0, 2, 2, "b").bytes), ": key \"split.no\" is 0, expected 1");
  EXPECT_EQ(error_with_second(part(1, 3, 2, "b").bytes),
            ": key \"split.count\" is 3, but the file's name says 2 (NAME-00001-of-000NN.gguf)");
  EXPECT_EQ(error_with_second(part(1, 2, 2, "a").bytes), ": tensor \"a\" appears twice");
  write("m-00001-of-00002.gguf", part(0, 2, 5, "a").bytes);
  EXPECT_EQ(error_with_second(part(1, 2, 5, "b").bytes), path + ": 2 parts hold 2 tensors, split.tensors.count says 5");
  const std::string renamed = write("m.gguf", part(0, 2, 2, "a").bytes);
  EXPECT_EQ(error_in([&] { GgufFile::open(renamed); }),
            renamed + ": key \"split.count\" is 2, but the file's name says 1 (NAME-00001-of-000NN.gguf)");
}

TEST_F(GgufOnDisk, EmptyAndMissingFilesAreErrors) {
  const std::string path = write("m.gguf", {});
  EXPECT_EQ(error_in([&] { GgufFile::open(path); }), path + ": the file is empty");
  EXPECT_THROW(GgufFile::open(path + ".absent"), Error);
  EXPECT_THROW(GgufFile::open(folder_), Error);
}

TEST_F(GgufOnDisk, ViewsOutliveAMove) {
  GgufFile first = GgufFile::open(write("m.gguf", small_file().bytes));
  const GgufFile second = std::move(first);
  EXPECT_EQ(second.string("general.architecture"), "llama");
  EXPECT_EQ(second.tensor("blk.3.attn_k.weight").row(1)[0], std::byte{34});
}

TEST(Gguf, ReadsWhatTheGgufPackageWrites) {
  const GgufFile file = GgufFile::open(LAMINA_ROOT "/fuzz/seeds/gguf/values.gguf");
  EXPECT_EQ(file.integer("a.u8"), 1);
  EXPECT_EQ(file.integer("a.i8"), -1);
  EXPECT_EQ(file.integer("a.u16"), 2);
  EXPECT_EQ(file.integer("a.i16"), -2);
  EXPECT_EQ(file.integer("a.u32"), 3);
  EXPECT_EQ(file.integer("a.i32"), -3);
  EXPECT_EQ(file.integer("a.u64"), 4);
  EXPECT_EQ(file.integer("a.i64"), -4);
  EXPECT_EQ(file.number("a.f32"), 0.5);
  EXPECT_EQ(file.number("a.f64"), 0.25);
  EXPECT_TRUE(file.boolean("a.bool"));
  EXPECT_EQ(file.strings("a.strings"), (std::vector<std::string_view>{"x", "yz", ""}));
  EXPECT_EQ(file.integers("a.integers"), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(file.numbers("a.floats"), (std::vector<float>{0.5F, 1.5F}));
  EXPECT_EQ(file.booleans("a.booleans"), (std::vector<bool>{true, false}));
  EXPECT_EQ(file.tensor("Q4_1.weight", {2, 32}).data.size(), 40U);
  const GgufFile empty = GgufFile::open(LAMINA_ROOT "/fuzz/seeds/gguf/no_tensors.gguf");
  EXPECT_TRUE(empty.tensors().empty());
  EXPECT_EQ(empty.string("general.architecture"), "llama");
}

}  // namespace
}  // namespace lamina
