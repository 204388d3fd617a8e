// SPDX-License-Identifier: Apache-2.0
#include "kv/policy_file.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/parse_spec.h"

namespace lamina {
namespace {

std::string policy(std::string_view spec) {
  return fmt::format(R"({{"schema":"lamina.policy/1","model":{{"layers":4}},"kv_spec":{}}})", spec);
}

std::string read(std::string_view text, const std::string& fingerprint = "") {
  KvShape shape = kShape;
  shape.fingerprint = fingerprint;
  return parse_policy(text, "p.json", shape);
}

TEST(PolicyFile, HoldsASpec) {
  EXPECT_EQ(read(policy("\"k8v8\"")), "k8v8");
  EXPECT_EQ(
      read(R"({"schema":"lamina.policy/1","model":{"layers":4,"shapes_sha256":"ab"},"kv_spec":"x","more":[1]})", "ab"),
      "x");
}

TEST(PolicyFile, RefusesWhatIsNoPolicy) {
  EXPECT_ERROR(read(""), "p.json: not JSON at byte 0 of 0");
  EXPECT_ERROR(read("[]"), "p.json: found [], expected a JSON object");
  EXPECT_ERROR(read(R"({"schema":"lamina.kvsharer/1","map":[0,1]})"),
               "p.json: schema is \"lamina.kvsharer/1\", expected \"lamina.policy/1\"");
  EXPECT_ERROR(read(R"({"schema":"lamina.policy/1","kv_spec":"k8v8"})"), "p.json: the field model is missing");
  EXPECT_ERROR(read(R"({"schema":"lamina.policy/1","model":{}})"), "p.json: kv_spec is missing, expected a string");
  EXPECT_ERROR(read(policy("8")), "p.json: kv_spec is 8, expected a string");
  EXPECT_ERROR(read(policy("\"other.json\"")), "p.json: kv_spec is \"other.json\", expected a spec, not another file");
}

TEST(PolicyFile, RefusesOtherModels) {
  const auto of = [](std::string_view model) {
    return read(fmt::format(R"({{"schema":"lamina.policy/1","model":{},"kv_spec":"k8v8"}})", model), "ab");
  };
  EXPECT_ERROR(of(R"({"layers":5})"), "p.json: model.layers is 5, this model has 4 layers");
  EXPECT_ERROR(of(R"({"layers":4,"shapes_sha256":"cd"})"), "p.json: made for another model");
}

TEST(PolicyFile, ItsNameStandsForItsSpec) {
  const std::string file = write_file("policy.json", policy("\"rotate + k4v4 + map(0_0_2_2)\""));
  EXPECT_EQ(parse(file).text(), "map(0_0_2_2) + k4v4 + rotate");
  EXPECT_EQ(parse(file).key(), "map(0_0_2_2) + k4v4 + rotate");
  EXPECT_ERROR(parse(write_file("bad.json", policy("\"k9v9\""))),
               "bad.json: field \"kv_spec\": kv spec \"k9v9\": unknown term");
  EXPECT_EQ(error_of([] { parse("missing.json"); }).find("missing.json: cannot open"), 0U);
  EXPECT_ERROR(parse("two\nlines.json"), "byte 3 is the control character 0x0a");
}

}  // namespace
}  // namespace lamina
