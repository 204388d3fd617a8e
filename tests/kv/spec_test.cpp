// SPDX-License-Identifier: Apache-2.0
#include "kv/spec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "kv/expect_error.h"

namespace lamina {
namespace {

const KvShape kShape = {.layers = 4, .kv_heads = 2, .head_dim = 64, .windows = {0, 0, 0, 0}, .fingerprint = {}};

KvSpec parse(std::string_view text) { return KvSpec::parse(text, kShape); }

std::string write_file(const std::string& name, std::string_view content) {
  std::string file = testing::TempDir() + name;
  std::ofstream(file) << content;
  return file;
}

TEST(KvSpec, FullIsTheDenseCache) {
  const KvSpec spec = parse("full");
  EXPECT_EQ(spec.layers, own_layers(kShape).map);
  EXPECT_EQ(spec.layers.slots(), 4);
  EXPECT_EQ(spec.tokens, nullptr);
  EXPECT_EQ(spec.k, Format::kF16);
  EXPECT_EQ(spec.v, Format::kF16);
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
  ASSERT_NE(spec.tokens, nullptr);
  EXPECT_TRUE(spec.tokens->renumbers());
  EXPECT_EQ(spec.k, Format::kInt8);
  EXPECT_EQ(spec.v, Format::kInt4);
  EXPECT_EQ(spec.grid, 512);
}

TEST(KvSpec, PrintsWithoutDefaults) {
  EXPECT_EQ(parse("f16 + window(sinks=4,window=9)").text(), "window(window=9)");
  EXPECT_EQ(parse("grid(7)").text(), "full + grid(7)");
  EXPECT_EQ(parse("grid(7)+full").text(), "full + grid(7)");
  EXPECT_EQ(parse("bf16").text(), "bf16");
}

TEST(KvSpec, ReadsEveryFormat) {
  const auto formats = [](std::string_view text) { return std::pair(parse(text).k, parse(text).v); };
  EXPECT_EQ(formats("f32"), std::pair(Format::kF32, Format::kF32));
  EXPECT_EQ(formats("bf16"), std::pair(Format::kBF16, Format::kBF16));
  EXPECT_EQ(formats("k8v8"), std::pair(Format::kInt8, Format::kInt8));
  EXPECT_EQ(formats("k4v4"), std::pair(Format::kInt4, Format::kInt4));
  EXPECT_EQ(formats("k4v8"), std::pair(Format::kInt4, Format::kInt8));
  EXPECT_EQ(formats("k16v4"), std::pair(Format::kF16, Format::kInt4));
  EXPECT_EQ(formats("k8v16"), std::pair(Format::kInt8, Format::kF16));
}

TEST(KvSpec, CacheTypesAreAliases) {
  for (const char* k : {"f16", "q8_0", "q4_0"}) {
    for (const char* v : {"f16", "q8_0", "q4_0"}) {
      const KvSpec spec = parse(bits_from_cache_types(k, v));
      const auto format = [](std::string_view name) {
        return name == "f16" ? Format::kF16 : name == "q8_0" ? Format::kInt8 : Format::kInt4;
      };
      EXPECT_EQ(spec.k, format(k));
      EXPECT_EQ(spec.v, format(v));
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

TEST(KvSpec, MiniCachePrintsWhatIsNoDefault) {
  const std::pair<const char*, const char*> cases[] = {
      {"minicache", "minicache"},
      {"minicache()", "minicache"},
      {"minicache(start=0.50,t=.6,keep=0.050,rule=distance,vector=token,of=kv,index=own,merge=slerp,kinds=same,"
       "pairs=adjacent)",
       "minicache"},
      {"k8v8 + minicache( keep=0 , t=1.0,start=0 )", "minicache(start=0,t=1,keep=0) + k8v8"},
      {"minicache(start=1.0)", "minicache(start=1.0)"},  // a share
      {"minicache(start=01)", "minicache(start=1)"},     // a layer
      {"minicache(start=1.)", "minicache(start=1.0)"},
      {"minicache(start=0.0)", "minicache(start=0.0)"},
      {"minicache(start=-0.0,t=-0)", "minicache(start=0.0,t=0)"},
      {"minicache(t=0.00001,keep=0.1234567890123)", "minicache(t=0.00001,keep=0.1234567890123)"},
      {"minicache(start=0.0000001)", "minicache(start=0.0000001)"},
      {"minicache(merge=mean,index=union,of=kv,vector=head,rule=top)",
       "minicache(rule=top,vector=head,index=union,merge=mean)"},
      {"minicache(merge=maxnorm,index=k,rule=cosine)", "minicache(rule=cosine,index=k,merge=maxnorm)"},
      {"minicache(of=v,rule=literal,kinds=any)", "minicache(rule=literal,of=v,kinds=any)"},
      {"window(window=9) + minicache(of=k) + grid(4)", "minicache(of=k) + window(window=9) + grid(4)"},
  };
  for (const auto& [text, canonical] : cases) {
    const KvSpec spec = parse(text);
    EXPECT_EQ(spec.text(), canonical) << text;
    EXPECT_EQ(spec.key(), canonical) << text;
    EXPECT_EQ(parse(spec.text()).text(), canonical) << text;
  }
}

TEST(KvSpec, MiniCacheReadsItsOptions) {
  using M = MiniCache;
  const M plain = parse("minicache").minicache;
  EXPECT_EQ(std::tuple(plain.t, plain.keep, plain.rule, plain.by_head), std::tuple(.6, .05, M::Rule::kDistance, false));
  EXPECT_EQ(std::tuple(plain.keys, plain.values), std::tuple(true, true));
  EXPECT_EQ(std::pair(plain.index, plain.merge), std::pair(M::Index::kOwn, M::Merge::kSlerp));
  EXPECT_EQ(plain.pairs, (std::vector<std::pair<int, int>>{{2, 3}}));
  const M all = parse("minicache(start=1,t=.25,keep=.5,rule=top,vector=head,index=k,merge=maxnorm)").minicache;
  EXPECT_EQ(std::tuple(all.t, all.keep, all.rule, all.by_head), std::tuple(.25, .5, M::Rule::kTop, true));
  EXPECT_EQ(std::pair(all.index, all.merge), std::pair(M::Index::kKeys, M::Merge::kMaxNorm));
  EXPECT_EQ(all.pairs, (std::vector<std::pair<int, int>>{{1, 2}}));
  EXPECT_EQ(parse("minicache(rule=cosine)").minicache.rule, M::Rule::kCosine);
  EXPECT_EQ(parse("minicache(rule=literal)").minicache.rule, M::Rule::kLiteral);
  EXPECT_EQ(parse("minicache(index=union)").minicache.index, M::Index::kUnion);
  EXPECT_EQ(parse("minicache(merge=mean)").minicache.merge, M::Merge::kMean);
  const M k = parse("minicache(of=k)").minicache, v = parse("minicache(of=v)").minicache;
  EXPECT_EQ(std::tuple(k.keys, k.values, v.keys, v.values), std::tuple(true, false, false, true));
  EXPECT_EQ(parse("minicache(start=0.0)").minicache.pairs.size(), 2U);
  EXPECT_EQ(parse("minicache(start=0.74)").minicache.pairs.size(), 1U);  // layer 2
  EXPECT_EQ(parse("minicache(start=0.75)").minicache.pairs.size(), 0U);
  EXPECT_EQ(parse("minicache(start=1.0)").layers, own_layers(kShape).map);
}

TEST(KvSpec, MiniCachePairsShareASlotOfTwoViews) {
  const LayerMap map = parse("minicache(start=1)").layers;
  ASSERT_EQ(map.slots(), 3);
  const std::pair<int, int> routes[] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}};  // slot, view
  for (int layer = 0; layer < 4; ++layer) {
    const Route& route = map[LayerId{layer}];
    EXPECT_EQ(std::pair(index(route.reads), route.view), routes[layer]) << layer;
    EXPECT_EQ(route.writes, route.reads) << layer;
    EXPECT_FALSE(route.lagged);
  }
  EXPECT_EQ(map.writers[1], (std::vector{LayerId{1}, LayerId{2}}));
  EXPECT_FALSE(map.cyclic());
}

TEST(KvSpec, MiniCacheTakesPairsFromAFile) {
  const std::string file =
      write_file("spec_test_pairs.json", R"({"schema":"lamina.minicache/1","pairs":[[0,3],[1,2]]})");
  const KvSpec spec = parse(fmt::format("minicache(map={},pairs=auto,start=0,keep=0)", file));
  EXPECT_EQ(spec.text(), fmt::format("minicache(start=0,pairs=auto,map={},keep=0)", file));
  // sha256sum of the content
  EXPECT_EQ(spec.key(), "minicache(start=0,pairs=auto,map=sha256:790cd30c0d470d03,keep=0)");
  EXPECT_EQ(parse(spec.text()).key(), spec.key());
  EXPECT_EQ(spec.minicache.pairs, (std::vector<std::pair<int, int>>{{0, 3}, {1, 2}}));
  EXPECT_EQ(spec.layers[LayerId{3}].reads, spec.layers[LayerId{0}].reads);
  EXPECT_EQ(spec.layers[LayerId{3}].view, 1);
  EXPECT_EQ(spec.layers[LayerId{2}].reads, spec.layers[LayerId{1}].reads);
  // start says how many: the best ones
  EXPECT_EQ(parse(fmt::format("minicache(map={},pairs=auto)", file)).minicache.pairs,
            (std::vector<std::pair<int, int>>{{0, 3}}));
  write_file("spec_test_pairs.json", R"({"schema":"lamina.minicache/1","pairs":[[1,2]]})");
  EXPECT_ERROR(parse(fmt::format("minicache(map={},pairs=auto,start=0)", file)), "1 pairs, start=0 asks for 2");
  EXPECT_ERROR(parse(fmt::format("minicache(map={},pairs=auto,start=0.0)", file)), "1 pairs, start=0.0 asks for 2");
  EXPECT_ERROR(parse("minicache(map=/no/such/file,pairs=auto)"), "/no/such/file: cannot open");

  const KvShape kinds = {.layers = 4, .kv_heads = 1, .head_dim = 64, .windows = {0, 0, 9, 9}, .fingerprint = {}};
  EXPECT_ERROR(KvSpec::parse(fmt::format("minicache(map={},pairs=auto)", file), kinds),
               "layers 1 and 2 are of different kinds (window 0 and 9), expected pairs of one kind or kinds=any");
  EXPECT_EQ(KvSpec::parse(fmt::format("minicache(map={},pairs=auto,kinds=any)", file), kinds).minicache.pairs.size(),
            1U);
  EXPECT_ERROR(KvSpec::parse("kvsharer(map=" + file + ")", kinds), "spec_test_pairs.json");
}

TEST(KvSpec, MiniCacheRandomTermsParseBack) {
  std::mt19937 random(8);
  const auto pick = [&](std::initializer_list<const char*> of) { return *(of.begin() + random() % of.size()); };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> arguments;
    const auto add = [&](const char* key, const std::string& value) {
      if (random() % 3 == 0) arguments.push_back(fmt::format("{}={}", key, value));
    };
    add("start", random() % 2 ? std::to_string(random() % 5) : fmt::format("0.{}", random()));
    for (const char* key : {"t", "keep"}) add(key, fmt::format("0.{}{}", std::string(random() % 30, '0'), random()));
    add("rule", pick({"distance", "top", "cosine", "literal"}));
    add("vector", pick({"token", "head"}));
    const char* of = pick({"kv", "k", "v"});
    add("of", of);
    if (of == std::string_view("kv")) add("index", pick({"own", "union", "k"}));
    add("merge", pick({"slerp", "mean", "maxnorm"}));
    add("kinds", pick({"same", "any"}));
    std::ranges::shuffle(arguments, random);
    const KvSpec spec = parse(fmt::format("minicache({})", fmt::join(arguments, " , ")));
    const KvSpec again = parse(spec.text());
    ASSERT_EQ(again.text(), spec.text());
    ASSERT_EQ(again.layers, spec.layers);
    const auto values = [](const MiniCache& m) {
      return std::tuple(m.t, m.keep, m.rule, m.by_head, m.keys, m.values, m.index, m.merge, m.pairs);
    };
    ASSERT_EQ(values(again.minicache), values(spec.minicache)) << spec.text();
    for (const auto& argument : arguments)  // to the last digit
      if (argument.starts_with("keep=")) {
        ASSERT_EQ(spec.minicache.keep, std::stod(argument.substr(5)));
      }
  }
}

TEST(KvSpec, LayerTermsPrintAsTheirMap) {
  const KvShape six = {.layers = 6, .kv_heads = 1, .head_dim = 64, .windows = {}, .fingerprint = {}};
  const std::pair<const char*, const char*> cases[] = {
      {"lckv(w=2)", "map(0_4_4_4_4_5)"},
      {"lckv", "map(0_4_4_4_4_5)"},
      {"lckv(w=4,m=3)", "map(0_1_3_3_4_5,m=3)"},
      {"lckv(w=2,b=1,m=7)", "map(0_4_4_4_4_5,b=1)"},
      {"lckv(w=5)", "map(0_1_3_3_4_5)"},
      {"lckv(w=0)", "map(5_5_5_5_5_5)"},
      {"cla(2)", "map(0_0_2_2_4_4)"},
      {"cla(2,kinds=any)", "map(0_0_2_2_4_4,kinds=any)"},
      {"cla(1)", "full"},
      {"yoco", "map(0s_1s_2s_3_3_3,window=16)"},
      {"yoco(window=5)", "map(0s_1s_2s_3_3_3,window=5)"},
      {"map(0s_1_2_3_4_5s,window=7)", "map(0s_1_2_3_4_5s,window=7)"},
      {"map(0_1_3_2_4_5,m=1,b=2)", "map(0_1_3_2_4_5,m=1)"},
      {"map(5_5_5_5_5_5,m=0,b=1)", "map(5_5_5_5_5_5,m=0,b=1)"},
      {"pizza(kv=2)", "map(0_1_1_1_1_1)"},
      {"sandwich(kv=3)", "map(0_4_4_4_4_5)"},
      {"lasagna(kv=2)", "map(0_0_0_3_3_3)"},
      {"lasagna(kv=2,target=top)", "map(2_2_2_5_5_5)"},
  };
  for (const auto& [text, canonical] : cases) {
    const KvSpec spec = KvSpec::parse(text, six, UpwardMaps::kAny);
    EXPECT_EQ(spec.text(), canonical) << text;
    const KvSpec again = KvSpec::parse(canonical, six, UpwardMaps::kAny);
    EXPECT_EQ(again.layers, spec.layers) << text;
    EXPECT_EQ(again.text(), canonical) << text;
    if (spec.layers.cyclic()) {
      EXPECT_ERROR(KvSpec::parse(text, six), "which this model was not trained for") << text;
    }
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
    ASSERT_EQ(again.tokens == nullptr, spec.tokens == nullptr);
    ASSERT_EQ(std::tuple(again.k, again.v, again.grid), std::tuple(spec.k, spec.v, spec.grid));
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
      {"map", "map has no value, expected map(0_0_2_2)"},
      {"map(0_0_2)", "the map has 3 items, the model has 4 layers"},
      {"map(0_0_x_2)", "item 2 of the map is \"x\""},
      {"map(3_3_3_3)", "layer 0 reads layer 3 above it, which this model was not trained for"},
      {"map(1_0_2_3)", "layer 0 reads layer 1 above it"},
      {"map(0_0_2_2s)", "layer 3 is marked \"s\""},
      {"kvsharer", "kvsharer names no strategy file"},
      {"kvsharer(/no/such/file)", "unknown argument \"/no/such/file\", expected one of map="},
      {"kvsharer(map=/no/such/file)", "/no/such/file: cannot open"},
      {"map(0_0_2_2,0)", "map has 2 bare values, expected one"},
      {"map(0_0_2_2,w=2)", "map has the unknown argument \"w=\", expected one of window=, kinds=, m=, b="},
      {"map(0_0_2_2,m=7)", "map reads no layer from below, so it has no passes to count; expected neither m= nor b="},
      {"map(0_0_2_2,kinds=all)", "kinds of map is \"all\", expected one of same, any"},
      {"map(0_0_2_2,window=3)", "map has window=3, but no layer is marked \"s\""},
      {"map(0_0_2_2,window=0)", "window of map is \"0\", expected an integer from 1 to"},
      {"lckv(2)", "lckv has the unknown argument \"2\", expected one of w=, kinds=, m=, b="},
      {"lckv(w=-1)", "w of lckv is \"-1\", expected an integer from 0 to"},
      {"lckv(w=2,b=0)", "b of lckv is \"0\", expected an integer from 1 to 1000"},
      {"lckv(w=2)", "above it, which this model was not trained for: its output would be gibberish"},
      {"cla", "cla has no value, expected cla(layers of a group)"},
      {"cla(0)", "the group of cla is \"0\", expected an integer from 1 to"},
      {"cla(2,m=1)", "cla has the unknown argument \"m=\", expected one of kinds="},
      {"yoco(w=3)", "yoco has the unknown argument \"w=\", expected one of window=, kinds="},
      {"pizza", "pizza does not say how many layers keep K and V, expected pizza(kv=N)"},
      {"sandwich(kv=5)", "kv of sandwich is \"5\", expected an integer from 1 to 4"},
      {"lasagna(kv=2,target=side)", "target of lasagna is \"side\", expected one of bottom, middle, top"},
      {"minicache(0.5)", "minicache has the unknown argument \"0.5\", expected one of start=, pairs=, map=, t=, keep="},
      {"minicache(gamma=0.05)", "minicache has the unknown argument \"gamma=\""},
      {"minicache(t=0.5,t=0.5)", "minicache has the argument t= twice"},
      {"minicache(t=1.1)", "t of minicache is \"1.1\", expected a number from 0 to 1"},
      {"minicache(t=-0.1)", "t of minicache is \"-0.1\", expected a number from 0 to 1"},
      {"minicache(keep=5%)", "keep of minicache is \"5%\", expected a number from 0 to 1"},
      {"minicache(keep=nan)", "keep of minicache is \"nan\", expected a number from 0 to 1"},
      {"minicache(keep=1e-3)", "keep of minicache is \"1e-3\", expected a number from 0 to 1"},
      {"minicache(start=5)", "start of minicache is \"5\", expected an integer from 0 to 4"},
      {"minicache(start=1.5)", "start of minicache is \"1.5\", expected a number from 0 to 1"},
      {"minicache(start=-1)", "start of minicache is \"-1\", expected an integer from 0 to 4"},
      {"minicache(start=.)", "start of minicache is \".\", expected a number from 0 to 1"},
      {"minicache(rule=b)", "rule of minicache is \"b\", expected one of distance, top, cosine, literal"},
      {"minicache(vector=row)", "vector of minicache is \"row\", expected one of token, head"},
      {"minicache(of=q)", "of of minicache is \"q\", expected one of kv, k, v"},
      {"minicache(index=v)", "index of minicache is \"v\", expected one of own, union, k"},
      {"minicache(merge=sum)", "merge of minicache is \"sum\", expected one of slerp, mean, maxnorm"},
      {"minicache(kinds=all)", "kinds of minicache is \"all\", expected one of same, any"},
      {"minicache(pairs=all)", "pairs of minicache is \"all\", expected one of adjacent, auto"},
      {"minicache(pairs=auto)",
       "minicache takes pairs=auto together with map=FILE, a file of `lamina search minicache`"},
      {"minicache(map=x)", "minicache takes pairs=auto together with map=FILE"},
      {"minicache(of=v,index=union)",
       "minicache has index=union with of=v: only one tensor is merged, so there is nothing to agree on"},
      {"minicache(of=k,index=k)", "minicache has index=k with of=k"},
      {"minicache + map(0_0_2_2)", "two layer terms, minicache and map; expected at most one"},
      {"minicache + minicache", "two layer terms, minicache and minicache"},
      {"full + minicache", "full stands for all three axes, so it goes with grid only"},
      {"minicahce", "unknown term \"minicahce\" (did you mean minicache?)"},
      {"fastgen(heavy=0.1)", "kv spec \"fastgen(heavy=0.1)\": the method fastgen does not exist yet in this version"},
      {"kivi4", "the method kivi4 does not exist yet"},
      {"steaming(window=4)", "unknown term \"steaming\" (did you mean streaming?), expected one of full map kvsharer"},
      {"q8_0",
       "unknown term \"q8_0\", expected one of full map kvsharer minicache lckv cla yoco pizza sandwich lasagna "
       "h2o streaming"},
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

TEST(KvSpec, MiniCacheNeedsLayersWithRowsOfTheirOwn) {
  const KvShape trained = {
      .layers = 4, .kv_heads = 1, .head_dim = 64, .windows = {}, .fingerprint = {}, .targets = {0, 2, 2, 3}};
  EXPECT_ERROR(KvSpec::parse("minicache", trained),
               "minicache merges layers that each keep rows of their own; this model was trained to share them");
}

TEST(KvSpec, WindowsOfTheModelConfineSharing) {
  const KvShape gemma = {.layers = 4, .kv_heads = 1, .head_dim = 256, .windows = {512, 0, 512, 0}, .fingerprint = {}};
  EXPECT_EQ(KvSpec::parse("map(0s_1_0s_1)", gemma).text(), "map(0_1_0_1)");
  EXPECT_EQ(KvSpec::parse("map(0s_1_2s_3)", gemma).text(), "full");
  EXPECT_ERROR(KvSpec::parse("map(0_0_2_2)", gemma), "layer 1 with no window reads layer 0 with a window of 512");
}

}  // namespace
}  // namespace lamina
