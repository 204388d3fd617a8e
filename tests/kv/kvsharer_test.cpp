// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/kvsharer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kv/expect_error.h"

namespace lamina {
namespace {

using Targets = std::vector<int>;

KvShape shape(int layers, std::string fingerprint = "") {
  return {.layers = layers, .kv_heads = 2, .head_dim = 64, .windows = {}, .fingerprint = std::move(fingerprint)};
}

Targets parse(std::string_view text, int layers = 4, const std::string& fingerprint = "") {
  return parse_kvsharer(text, "s.json", shape(layers, fingerprint));
}

TEST(KvSharer, ReadsItsOwnForm) {
  EXPECT_EQ(parse(R"({"schema":"lamina.kvsharer/1","map":[0,1,0,1]})"), (Targets{0, 1, 0, 1}));
  EXPECT_EQ(parse(R"({"schema":"lamina.kvsharer/1","model":{"architecture":"llama","layers":4,"shapes_sha256":"ab"},
                      "calibration":{"lines":30},"map":[0,0,2,3],"ranking":[[3,0,1.5]]})",
                  4, "ab"),
            (Targets{0, 0, 2, 3}));
}

TEST(KvSharer, ReadsThePublishedForm) {
  EXPECT_EQ(parse(R"({"3":0,"5":1})", 8), (Targets{0, 1, 2, 0, 4, 1, 6, 7}));
  EXPECT_EQ(parse("{}"), (Targets{0, 1, 2, 3}));
  EXPECT_EQ(parse(R"({"0":0,"1":1,"2":1,"3":3})"), (Targets{0, 1, 1, 3}));
}

// Example (d) of the specification: accepted pairs (5,0) (3,2) (4,3) (2,0) end on one root.
TEST(KvSharer, CollapsesChainsToTheRoot) {
  EXPECT_EQ(parse(R"({"5":0,"3":2,"4":3,"2":0})", 6), (Targets{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(parse(R"({"1":0,"2":1,"3":2})"), (Targets{0, 0, 0, 0}));
}

TEST(KvSharer, RefusesWhatIsNoStrategy) {
  EXPECT_ERROR(parse(""), "s.json: not JSON at byte");
  EXPECT_ERROR(parse("[0,1,2,3]"), "s.json: found [0,1,2,3], expected a JSON object");
  EXPECT_ERROR(parse(R"({"3":NaN})"), "s.json: not JSON at byte");
  EXPECT_ERROR(parse(R"({"3":1e999})"), "s.json: holds a number that is out of range");
  EXPECT_ERROR(parse("{\"3\":0,\n\"\x80\":1}"), "s.json: not JSON at byte");
  EXPECT_ERROR(parse(R"({"3":0,"3":1})"), "s.json: field \"3\" comes twice");
  EXPECT_ERROR(parse(R"({"map":[0,1,2,3]})"), "s.json: found the field \"map\", expected \"schema\" or a layer");
  for (const char* key : {"03", "3 ", "+3", "-0", "4", "99999999999", "", "3.0"}) {
    EXPECT_ERROR(parse(fmt::format(R"({{"{}":0}})", key)), "expected \"schema\" or a layer from 0 to 3");
  }
}

TEST(KvSharer, RefusesBadSources) {
  EXPECT_ERROR(parse(R"({"3":4})"), "s.json: the source of layer 3 is 4, expected a layer from 0 to 3");
  EXPECT_ERROR(parse(R"({"3":-1})"), "the source of layer 3 is -1");
  EXPECT_ERROR(parse(R"({"3":18446744073709551615})"), "the source of layer 3 is 18446744073709551615");
  EXPECT_ERROR(parse(R"({"3":1.0})"), "the source of layer 3 is 1.0");
  EXPECT_ERROR(parse(R"({"3":null})"), "the source of layer 3 is null");
  EXPECT_ERROR(parse(R"({"3":"1"})"), "the source of layer 3 is \"1\"");
  EXPECT_ERROR(parse(R"({"1":3})"), "the source of layer 1 is layer 3, expected an earlier one");
}

TEST(KvSharer, RefusesBadMaps) {
  const auto with_map = [](const std::string& map) {
    return parse(R"({"schema":"lamina.kvsharer/1","map":)" + map + "}");
  };
  EXPECT_ERROR(with_map("[0,1,2]"), "s.json: map is an array of 3, expected an array of 4 layer numbers");
  EXPECT_ERROR(with_map(R"({"3":0})"), "s.json: map is {\"3\":0}, expected an array");
  EXPECT_ERROR(with_map("[0,1,2,4]"), "s.json: map[3] is 4, expected a layer from 0 to 3");
  EXPECT_ERROR(with_map("[0,1,2,0.5]"), "s.json: map[3] is 0.5");
  EXPECT_ERROR(with_map("[0,2,2,3]"), "s.json: map[1] is 2, expected the layer itself or an earlier one");
  EXPECT_ERROR(with_map("[0,0,1,3]"), "s.json: map[2] is 1, which reads layer 0 itself");
  EXPECT_ERROR(parse(R"({"schema":"lamina.kvsharer/1"})"), "s.json: the field map is missing");
  EXPECT_ERROR(parse(R"({"schema":"lamina.kvsharer/2","map":[0,1,2,3]})"), "schema is \"lamina.kvsharer/2\", expected");
  EXPECT_ERROR(parse(R"({"schema":1,"map":[0,1,2,3]})"), "schema is 1, expected");
}

TEST(KvSharer, RefusesAnotherModel) {
  const auto with_model = [](const std::string& model, const std::string& fingerprint = "") {
    return parse(R"({"schema":"lamina.kvsharer/1","map":[0,1,2,3],"model":)" + model + "}", 4, fingerprint);
  };
  EXPECT_ERROR(with_model(R"({"layers":32})"), "s.json: model.layers is 32, this model has 4 layers");
  EXPECT_ERROR(with_model(R"({"layers":"4"})"), "s.json: model.layers is \"4\"");
  EXPECT_ERROR(with_model("7"), "s.json: model is 7, expected an object");
  EXPECT_ERROR(with_model(R"({"shapes_sha256":"ab"})", "cd"), "s.json: made for another model");
  EXPECT_ERROR(with_model(R"({"shapes_sha256":1})"), "s.json: model.shapes_sha256 is 1, expected a string");
  EXPECT_EQ(with_model(R"({"shapes_sha256":"ab"})"), (Targets{0, 1, 2, 3}));
  EXPECT_EQ(with_model("{}", "cd"), (Targets{0, 1, 2, 3}));
}

TEST(KvSharer, LoadsAFileWithItsHash) {
  const std::string file = testing::TempDir() + "kvsharer_test.json";
  std::ofstream(file) << R"({"3":0})";
  const KvSharerStrategy strategy = load_kvsharer(file, shape(4));
  EXPECT_EQ(strategy.target, (Targets{0, 1, 2, 0}));
  // printf '{"3":0}' | sha256sum
  EXPECT_EQ(strategy.sha256, "74443b8a82010f9f9985953e5b2ec79fb3955eafeeb8a6b4fe6e6d921f2c8d96");
  EXPECT_ERROR(load_kvsharer(file + ".absent", shape(4)), "kvsharer_test.json.absent: cannot open");
  std::ofstream(file) << std::string((16U << 20) + 1, ' ');
  EXPECT_ERROR(load_kvsharer(file, shape(4)), "expected a strategy file of at most");
}

}  // namespace
}  // namespace lamina
