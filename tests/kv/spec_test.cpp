// SPDX-License-Identifier: Apache-2.0
#include "kv/spec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "kv/expect_error.h"
#include "kv/parse_spec.h"

namespace lamina {
namespace {

TEST(KvSpec, FullIsTheDenseCache) {
  const KvSpec spec = parse("full");
  EXPECT_EQ(spec.layers, own_layers(kShape).map);
  EXPECT_EQ(spec.layers.slots(), 4);
  EXPECT_EQ(spec[SlotId{0}].tokens, nullptr);
  EXPECT_EQ(spec[SlotId{0}].k, Format::kF16);
  EXPECT_EQ(spec[SlotId{0}].v, Format::kF16);
  EXPECT_EQ(spec.grid, 0);
  for (const char* text : {"full", " full ", "f16", "map(0_1_2_3)", "map(0_1_2_3)+f16", "full()"}) {
    EXPECT_EQ(parse(text).text(), "full") << text;
    EXPECT_EQ(parse(text).key(), "full") << text;
  }
}

TEST(KvSpec, ReadsEveryAxis) {
  const KvSpec spec = parse("grid(512)+k8v4 + streaming( window=1020 )+map(00_0_2_2)");
  EXPECT_EQ(spec.text(), "map(0_0_2_2) + streaming(window=1020) + k8v4 + grid(512)");
  EXPECT_EQ(spec.key(), spec.text());
  EXPECT_EQ(spec.layers, LayerMap::from_targets(std::vector{0, 0, 2, 2}, kShape));
  ASSERT_NE(spec[SlotId{0}].tokens, nullptr);
  EXPECT_TRUE(spec[SlotId{0}].tokens->renumbers());
  EXPECT_EQ(spec[SlotId{0}].k, Format::kInt8);
  EXPECT_EQ(spec[SlotId{0}].v, Format::kInt4);
  EXPECT_EQ(spec.grid, 512);
}

TEST(KvSpec, PrintsWithoutDefaults) {
  EXPECT_EQ(parse("f16 + window(sinks=4,window=9)").text(), "window(window=9)");
  EXPECT_EQ(parse("grid(7)").text(), "full + grid(7)");
  EXPECT_EQ(parse("grid(7)+full").text(), "full + grid(7)");
  EXPECT_EQ(parse("bf16").text(), "bf16");
}

TEST(KvSpec, ReadsEveryFormat) {
  const auto formats = [](std::string_view text) {
    return std::pair(parse(text)[SlotId{0}].k, parse(text)[SlotId{0}].v);
  };
  EXPECT_EQ(formats("f32"), std::pair(Format::kF32, Format::kF32));
  EXPECT_EQ(formats("bf16"), std::pair(Format::kBF16, Format::kBF16));
  EXPECT_EQ(formats("k8v8"), std::pair(Format::kInt8, Format::kInt8));
  EXPECT_EQ(formats("k4v4"), std::pair(Format::kInt4, Format::kInt4));
  EXPECT_EQ(formats("k4v8"), std::pair(Format::kInt4, Format::kInt8));
  EXPECT_EQ(formats("k16v4"), std::pair(Format::kF16, Format::kInt4));
  EXPECT_EQ(formats("k8v16"), std::pair(Format::kInt8, Format::kF16));
}

TEST(KvSpec, KnowsWhichPromptsAreComputedAlike) {
  const auto same = [](const char* a, const char* b) {
    const KvSpec x = KvSpec::parse(a, kShape), y = KvSpec::parse(b, kShape);
    EXPECT_EQ(x.same_prompt(y), y.same_prompt(x)) << a << ", " << b;
    return x.same_prompt(y);
  };
  EXPECT_TRUE(same("full", "k4v4"));
  EXPECT_TRUE(same("streaming(window=9) + bf16", "h2o + k8v8"));
  EXPECT_TRUE(same("map(0_0_2_2)", "map(0_0_2_2) + snapkv + k8v8"));
  EXPECT_FALSE(same("full", "map(0_0_2_2)"));
  EXPECT_FALSE(same("map(0_1_0_1)", "map(0_0_2_2)"));
  EXPECT_FALSE(same("full", "f32"));
  EXPECT_FALSE(same("full", "bits(0=f32,1-3=f16)"));
  EXPECT_FALSE(same("full", "k4v4 + rotate"));
  EXPECT_FALSE(same("full", "h2o + grid(16)"));
  EXPECT_FALSE(same("h2o + grid(16)", "h2o + grid(16)"));
  EXPECT_FALSE(same("full", "pyramidinfer"));
  EXPECT_TRUE(same("full", "minicache(start=0)"));
}

TEST(KvSpec, CacheTypesAreAliases) {
  for (const char* k : {"f16", "q8_0", "q4_0"}) {
    for (const char* v : {"f16", "q8_0", "q4_0"}) {
      const KvSpec spec = parse(bits_from_cache_types(k, v));
      const auto format = [](std::string_view name) {
        return name == "f16" ? Format::kF16 : name == "q8_0" ? Format::kInt8 : Format::kInt4;
      };
      EXPECT_EQ(spec[SlotId{0}].k, format(k));
      EXPECT_EQ(spec[SlotId{0}].v, format(v));
    }
  }
  EXPECT_EQ(bits_from_cache_types("q8_0", "q4_0"), "k8v4");
  EXPECT_EQ(bits_from_cache_types("f16", "f16"), "f16");
  EXPECT_EQ(bits_from_cache_types("f32", "f32"), "f32");
  EXPECT_EQ(bits_from_cache_types("bf16", "bf16"), "bf16");
  EXPECT_ERROR(bits_from_cache_types("f16", "q5_1"),
               "cache type \"q5_1\" is unknown, expected f32, f16, bf16, q8_0 or");
  EXPECT_ERROR(bits_from_cache_types("q8_0", "f32"), "do not go together: f32 needs itself");
  EXPECT_ERROR(bits_from_cache_types("bf16", "f32"), "do not go together");
}

TEST(KvSpec, FilesEnterTheKeyByTheirContent) {
  const std::string a = write_file("spec_test_a.json", R"({"3":0})");
  const std::string b = write_file("spec_test_b.json", R"({"3":0})");
  const KvSpec spec = parse(fmt::format("kvsharer(map={})+k8v8", a));
  EXPECT_EQ(spec.text(), fmt::format("kvsharer(map={}) + k8v8", a));
  // printf '{"3":0}' | sha256sum
  EXPECT_EQ(spec.key(), "kvsharer(map=sha256:74443b8a82010f9f) + k8v8");
  EXPECT_EQ(parse(fmt::format("kvsharer(map={})+k8v8", b)).key(), spec.key());
  EXPECT_EQ(spec.layers, LayerMap::from_targets(std::vector{0, 1, 2, 0}, kShape));
  write_file("spec_test_b.json", R"({"3":1})");
  EXPECT_NE(parse(fmt::format("kvsharer(map={})+k8v8", b)).key(), spec.key());
  write_file("spec_test_b.json", "{}");
  EXPECT_EQ(parse(fmt::format("kvsharer(map={})", b)).text(), "full");
}

TEST(KvSpec, FileNamesSurvivePrinting) {
  for (const char* name :
       {"plain.json", "two words.json", "a+b=c;d.json", "q\"uote.json", "back\\slash.json", "paren(1).json",
        "comma,.json", "\xC3\xA9t\xC3\xA9 \xE5\xB1\x82.json", "semi;colon", "-x'y"}) {
    const std::string file = write_file(name, R"({"3":0})");
    std::string escaped;
    for (const char c : file) escaped += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    const KvSpec spec = parse(fmt::format("kvsharer(map = \"{}\" )", escaped));
    EXPECT_EQ(spec.layers.slots(), 3) << name;
    EXPECT_EQ(parse(spec.text()).text(), spec.text()) << name;
    EXPECT_EQ(parse(spec.text()).key(), spec.key()) << name;
    if (file.find_first_of(",)\"") == std::string::npos) {
      EXPECT_EQ(parse(fmt::format("kvsharer(map={})", file)).text(), spec.text()) << name;
    }
    std::filesystem::remove(file);
  }
}

TEST(KvSpec, AnyOrderOfRandomTermsPrintsTheSameAndParsesBack) {
  std::mt19937 random(7);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const std::string file = write_file("spec test,random.json", R"({"1":0,"3":2})");
  const char* bits[] = {"f32", "bf16", "k8v8", "k8v4", "k4v4", "k4v8", "k16v8", "k8v16", "k16v4", "k4v16"};
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> terms;
    if (pick(2) == 0) {
      std::string map = "map(0";
      for (int layer = 1; layer < 4; ++layer) map += fmt::format("_{}", pick(layer + 1));
      terms.push_back(pick(4) == 0 ? fmt::format("kvsharer(map=\"{}\")", file) : map + ")");
    }
    if (pick(2) == 0) {
      const char* method = pick(2) == 0 ? "streaming" : "window";
      const int sinks = pick(6);
      const std::string budget = pick(3) == 0   ? fmt::format("window={}", 1 + pick(5000))
                                 : pick(2) == 0 ? fmt::format("keep={}", sinks + 1 + pick(5000))
                                                : fmt::format("keep={}.{}%", pick(100), 1 + pick(9999));
      terms.push_back(pick(2) == 0 ? fmt::format("{}({},sinks={})", method, budget, sinks)
                                   : fmt::format("{}( sinks={} ,{} )", method, sinks, budget));
    }
    if (pick(2) == 0) terms.emplace_back(bits[pick(10)]);
    if (pick(2) == 0 || terms.empty()) terms.push_back(fmt::format("grid({})", 1 + pick(2048)));
    const KvSpec spec = parse(fmt::format("{}", fmt::join(terms, "+")));
    std::ranges::shuffle(terms, random);
    ASSERT_EQ(parse(fmt::format("{}", fmt::join(terms, "  + "))).text(), spec.text());
    const KvSpec again = parse(spec.text());
    ASSERT_EQ(again.text(), spec.text());
    ASSERT_EQ(again.key(), spec.key());
    ASSERT_EQ(again.layers, spec.layers);
    ASSERT_EQ(again[SlotId{0}].tokens == nullptr, spec[SlotId{0}].tokens == nullptr);
    ASSERT_EQ(std::tuple(again[SlotId{0}].k, again[SlotId{0}].v, again.grid),
              std::tuple(spec[SlotId{0}].k, spec[SlotId{0}].v, spec.grid));
  }
}

TEST(KvSpec, ErrorsNameTheSpecAndTheReason) {
  EXPECT_EQ(error_of([] { parse("map(0_0_9_2)"); }),
            "kv spec \"map(0_0_9_2)\": layer 2 reads layer 9, the model has layers 0..3");
  const std::pair<const char*, const char*> cases[] = {
      {"", "kv spec \"\": it is empty, expected terms such as full or k8v8"},
      {"  ", "it is empty"},
      {"k8v8 +", "found the end where a term was expected"},
      {"+ k8v8", "found \"+\" where a term was expected"},
      {"k8v8 ++ grid(1)", "found \"+\" where a term was expected"},
      {"k8v8 grid(1)", "found \"g\" after the term k8v8, expected \"+\" or the end"},
      {"K8V8", "found \"K\" where a term was expected"},
      {"window(window=4", "found the end in the arguments of window, expected \",\" or \")\""},
      {"window(window=4))", "found \")\" after the term window"},
      {"window(window=4,)", "an argument of window is empty"},
      {"window(window=)", "an argument of window is empty, expected a value after window="},
      {"kvsharer(map=\"x)", "the quotes in the arguments of kvsharer are not closed"},
      {"kvsharer(map=\"x\\n\")", "found \"n\" after a \\ in the quotes of kvsharer"},
      {"kvsharer(map=\"x\"y)", "found \"y\" in the arguments of kvsharer"},
      {"k8v8 + k4v4", "two bits terms, k8v8 and k4v4; expected at most one"},
      {"f16 + f16", "two bits terms"},
      {"map(0_1_2_3) + map(0_0_0_0)", "two layer terms"},
      {"window(window=4) + streaming(window=4)", "two token terms, window(window=4) and streaming"},
      {"grid(5) + grid(5)", "grid comes twice"},
      {"full + full", "full comes twice"},
      {"full + k8v8", "full stands for all three axes, so it goes with grid only"},
      {"full(1)", "full takes no arguments, found \"1\""},
      {"k8v8(group=32)", "k8v8 takes no arguments"},
      {"grid", "grid has no argument, expected grid(a number of tokens)"},
      {"grid(n=5)", "grid has the argument n=, expected grid(a number of tokens)"},
      {"grid(1,2)", "grid has 2 arguments"},
      {"grid(0)", "the distance of grid is \"0\", expected an integer from 1 to"},
      {"grid(99999999999)", "the distance of grid is \"99999999999\""},
      {"minicahce", "unknown term \"minicahce\" (did you mean minicache?)"},
      {"kivi(bits=2)", "kv spec \"kivi(bits=2)\": unknown term \"kivi\" (did you mean kivi4?)"},
      {"steaming(window=4)", "unknown term \"steaming\" (did you mean streaming?), expected one of full map kvsharer"},
      {"q8_0",
       "unknown term \"q8_0\", expected one of full map kvsharer minicache lckv cla yoco pizza sandwich lasagna "
       "fastgen h2o snapkv"},
      {"k8v8\n", "byte 4 is the control character 0x0a"},
      {"k8v8\xFF", "byte 4 is not valid UTF-8"},
      {"\xC0\x80", "byte 0 is not valid UTF-8"},
      {"\xED\xA0\x80", "byte 0 is not valid UTF-8"},
      {"\xF4\x90\x80\x80", "byte 0 is not valid UTF-8"},
      {"\xE5\xB1", "byte 0 is not valid UTF-8"},
      {"k8v8 + \xE5\xB1\x82", "found \"\xE5\xB1\x82\" where a term was expected"},
  };
  for (const auto& test : cases) EXPECT_ERROR(parse(test.first), test.second) << test.first;
  const std::string error = error_of([] { parse(std::string(100'000, 'a')); });
  EXPECT_PRED2(is_line_with, error, "it has 100000 bytes, expected at most 8192");
  EXPECT_LT(error.size(), 300U);
}

}  // namespace
}  // namespace lamina
