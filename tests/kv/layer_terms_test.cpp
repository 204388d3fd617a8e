// SPDX-License-Identifier: Apache-2.0
// The terms of the layers axis in a spec: what they print as, what they read, what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "kv/expect_error.h"
#include "kv/parse_spec.h"
#include "kv/spec.h"

namespace lamina {
namespace {

TEST(LayerTerms, MiniCachePrintsWhatIsNoDefault) {
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

TEST(LayerTerms, MiniCacheReadsItsOptions) {
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

TEST(LayerTerms, MiniCachePairsShareASlotOfTwoViews) {
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

TEST(LayerTerms, MiniCacheTakesPairsFromAFile) {
  const std::string file =
      write_file("layer_terms_pairs.json", R"({"schema":"lamina.minicache/1","pairs":[[0,3],[1,2]]})");
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
  write_file("layer_terms_pairs.json", R"({"schema":"lamina.minicache/1","pairs":[[1,2]]})");
  EXPECT_ERROR(parse(fmt::format("minicache(map={},pairs=auto,start=0)", file)), "1 pairs, start=0 asks for 2");
  EXPECT_ERROR(parse(fmt::format("minicache(map={},pairs=auto,start=0.0)", file)), "1 pairs, start=0.0 asks for 2");
  EXPECT_ERROR(parse("minicache(map=/no/such/file,pairs=auto)"), "/no/such/file: cannot open");

  const KvShape kinds = {.layers = 4, .kv_heads = 1, .head_dim = 64, .windows = {0, 0, 9, 9}, .fingerprint = {}};
  EXPECT_ERROR(KvSpec::parse(fmt::format("minicache(map={},pairs=auto)", file), kinds),
               "layers 1 and 2 are of different kinds (window 0 and 9), expected pairs of one kind or kinds=any");
  EXPECT_EQ(KvSpec::parse(fmt::format("minicache(map={},pairs=auto,kinds=any)", file), kinds).minicache.pairs.size(),
            1U);
  EXPECT_ERROR(KvSpec::parse("kvsharer(map=" + file + ")", kinds), "layer_terms_pairs.json");
}

TEST(LayerTerms, MiniCacheRandomTermsParseBack) {
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

TEST(LayerTerms, NamedMapsPrintAsTheirMap) {
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
  for (const auto& names : cases) {
    const char *const text = names.first, *const canonical = names.second;
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

TEST(LayerTerms, MiniCacheNeedsLayersWithRowsOfTheirOwn) {
  const KvShape trained = {
      .layers = 4, .kv_heads = 1, .head_dim = 64, .windows = {}, .fingerprint = {}, .targets = {0, 2, 2, 3}};
  EXPECT_ERROR(KvSpec::parse("minicache", trained),
               "minicache merges layers that each keep rows of their own; this model was trained to share them");
}

TEST(LayerTerms, WindowsOfTheModelConfineSharing) {
  const KvShape gemma = {.layers = 4, .kv_heads = 1, .head_dim = 256, .windows = {512, 0, 512, 0}, .fingerprint = {}};
  EXPECT_EQ(KvSpec::parse("map(0s_1_0s_1)", gemma).text(), "map(0_1_0_1)");
  EXPECT_EQ(KvSpec::parse("map(0s_1_2s_3)", gemma).text(), "full");
  EXPECT_ERROR(KvSpec::parse("map(0_0_2_2)", gemma), "layer 1 with no window reads layer 0 with a window of 512");
}

TEST(LayerTerms, ErrorsNameTheReason) {
  const std::pair<const char*, const char*> cases[] = {
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
      {"map(0_0_2_2,m=7)",
       "no layer of map reads one above it, so a prompt takes one pass; expected neither m= nor b="},
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
  };
  for (const auto& test : cases) EXPECT_ERROR(parse(test.first), test.second) << test.first;
}

}  // namespace
}  // namespace lamina
