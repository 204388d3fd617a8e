// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/pair_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/sha256.h"
#include "kv/expect_error.h"

namespace lamina {
namespace {

using Pairs = std::vector<std::pair<int, int>>;

KvShape shape(std::string fingerprint = "") {
  return {.layers = 6, .kv_heads = 2, .head_dim = 64, .windows = {}, .fingerprint = std::move(fingerprint)};
}

Pairs parse(std::string_view text, const std::string& fingerprint = "") {
  return parse_pairs(text, "p.json", shape(fingerprint));
}

Pairs with_pairs(std::string_view pairs) {
  return parse(fmt::format(R"({{"schema":"lamina.minicache/1","pairs":{}}})", pairs));
}

TEST(PairFile, KeepsTheOrderOfTheFile) {
  EXPECT_EQ(with_pairs("[[2,3],[0,5],[1,4]]"), (Pairs{{2, 3}, {0, 5}, {1, 4}}));
  EXPECT_EQ(with_pairs("[]"), Pairs{});
  EXPECT_EQ(parse(R"({"schema":"lamina.minicache/1","model":{"layers":6,"shapes_sha256":"ab"},"similarity":[0.9],
                      "pairs":[[4,5]]})",
                  "ab"),
            (Pairs{{4, 5}}));
}

TEST(PairFile, RefusesWhatIsNoPairFile) {
  EXPECT_ERROR(parse(""), "p.json: not JSON at byte 0 of 0");
  EXPECT_ERROR(parse("[[0,1]]"), "p.json: found [[0,1]], expected a JSON object");
  EXPECT_ERROR(parse("{}"), "p.json: schema is missing, expected \"lamina.minicache/1\"");
  EXPECT_ERROR(parse(R"({"schema":1,"pairs":[]})"), "p.json: schema is 1, expected \"lamina.minicache/1\"");
  EXPECT_ERROR(parse(R"({"schema":"lamina.kvsharer/1","map":[0,1]})"),
               "p.json: schema is \"lamina.kvsharer/1\", expected \"lamina.minicache/1\"");
  EXPECT_ERROR(parse(R"({"schema":"lamina.minicache/1"})"),
               "p.json: the field pairs is missing, expected an array of layer pairs");
  EXPECT_ERROR(with_pairs("7"), "p.json: the field pairs is 7, expected an array of layer pairs");
  EXPECT_ERROR(with_pairs("null"), "p.json: the field pairs is null");
  EXPECT_ERROR(with_pairs("{\"0\":1}"), "p.json: the field pairs is {\"0\":1}");
}

TEST(PairFile, RefusesOtherModels) {
  const auto with_model = [](std::string_view model, const std::string& fingerprint) {
    return parse(fmt::format(R"({{"schema":"lamina.minicache/1","model":{},"pairs":[]}})", model), fingerprint);
  };
  EXPECT_ERROR(with_model("7", ""), "p.json: model is 7, expected an object");
  EXPECT_ERROR(with_model(R"({"layers":8})", ""), "p.json: model.layers is 8, this model has 6 layers");
  EXPECT_ERROR(with_model(R"({"layers":"6"})", ""), "p.json: model.layers is \"6\", this model has 6 layers");
  EXPECT_ERROR(with_model(R"({"shapes_sha256":7})", "ab"), "model.shapes_sha256 is 7, expected a string");
  EXPECT_ERROR(with_model(R"({"shapes_sha256":"cd"})", "ab"),
               "p.json: made for another model (model.shapes_sha256 is \"cd\", this model's is \"ab\")");
  EXPECT_EQ(with_model(R"({"shapes_sha256":"cd"})", ""), Pairs{});
}

TEST(PairFile, RefusesBadPairs) {
  EXPECT_ERROR(with_pairs("[[0,1],[2]]"), "p.json: pairs[1] is [2], expected two layers");
  EXPECT_ERROR(with_pairs("[[0,1,2]]"), "p.json: pairs[0] is [0,1,2], expected two layers");
  EXPECT_ERROR(with_pairs("[3]"), "p.json: pairs[0] is 3, expected two layers");
  EXPECT_ERROR(with_pairs("[[0,6]]"), "p.json: pairs[0] is 6, expected a layer from 0 to 5");
  EXPECT_ERROR(with_pairs("[[-1,1]]"), "p.json: pairs[0] is -1, expected a layer from 0 to 5");
  EXPECT_ERROR(with_pairs("[[0,18446744073709551615]]"), "p.json: pairs[0] is 18446744073709551615");
  EXPECT_ERROR(with_pairs("[[0.0,1]]"), "p.json: pairs[0] is 0.0");
  EXPECT_ERROR(with_pairs("[[\"0\",1]]"), "p.json: pairs[0] is \"0\"");
  EXPECT_ERROR(with_pairs("[[3,2]]"), "p.json: pairs[0] is [3,2], expected the lower layer first");
  EXPECT_ERROR(with_pairs("[[2,2]]"), "p.json: pairs[0] is [2,2], expected the lower layer first");
  EXPECT_ERROR(with_pairs("[[0,1],[1,2]]"), "p.json: pairs[1] names layer 1, which is in an earlier pair");
  EXPECT_ERROR(with_pairs("[[0,1],[0,2]]"), "p.json: pairs[1] names layer 0, which is in an earlier pair");
}

TEST(PairFile, LoadsWithTheHashOfItsContent) {
  const std::string text = R"({"schema":"lamina.minicache/1","pairs":[[2,3]]})";
  const std::string file = testing::TempDir() + "pair_file_test.json";
  std::ofstream(file) << text;
  const PairFile pairs = load_pairs(file, shape());
  EXPECT_EQ(pairs.pairs, (Pairs{{2, 3}}));
  EXPECT_EQ(pairs.sha256, sha256_hex(text));
  EXPECT_ERROR(load_pairs("/no/such/file", shape()), "/no/such/file: cannot open");
  std::ofstream(file).close();
  EXPECT_ERROR(load_pairs(file, shape()), "pair_file_test.json");
}

TEST(PairFile, IsReadAsASearchWroteIt) {
  PairSearch search;
  search.architecture = "llama";
  search.calibration = {.file = "t\"e\xFFxt", .sha256 = "12", .sentences = 3, .tokens = 16};
  search.options = {.values = false, .by_head = true, .across_kinds = true};
  search.ranking = {{.lower = 2, .deeper = 3, .distance = 0.25}, {.lower = 0, .deeper = 5, .distance = 0.5}};
  search.pairs = {{2, 3}, {0, 5}};
  const std::string text = print_pairs(search, shape("ab"));
  EXPECT_EQ(text, R"({
  "schema": "lamina.minicache/1",
  "model": {"architecture":"llama","layers":6,"shapes_sha256":"ab"},
  "calibration": {"file":"t\"e�xt","sha256":"12","sentences":3,"tokens":16},
  "options": {"of":"k","vector":"head","across_kinds":true},
  "pairs": [
    [2,3],
    [0,5]
  ],
  "ranking": [
    [2,3,0.25],
    [0,5,0.5]
  ]
}
)");
  EXPECT_EQ(parse(text, "ab"), search.pairs);
  EXPECT_ERROR(parse(text, "cd"), "p.json: made for another model");
  EXPECT_EQ(parse(print_pairs(PairSearch(), shape())), Pairs{});
  EXPECT_NE(print_pairs(PairSearch(), shape()).find("\"of\":\"kv\",\"vector\":\"token\""), std::string::npos);
}

}  // namespace
}  // namespace lamina
