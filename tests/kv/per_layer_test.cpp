// SPDX-License-Identifier: Apache-2.0
#include "kv/per_layer.h"

#include <gtest/gtest.h>

#include "kv/expect_error.h"
#include "kv/sequence.h"
#include "kv/spec.h"

namespace lamina {
namespace {

KvShape shape() { return {.layers = 6, .kv_heads = 2, .head_dim = 32}; }
KvSpec parse(const std::string& text) { return KvSpec::parse(text, shape()); }
std::string canonical(const std::string& text) {
  const std::string once = parse(text).text();
  EXPECT_EQ(parse(once).text(), once);
  return once;
}

TEST(PerLayer, TermsPrintAsRangesOfWhatIsNotUsual) {
  EXPECT_EQ(canonical("bits(0-1=f16,2-5=k4v4)"), "bits(2-5=k4v4)");
  EXPECT_EQ(canonical("bits(5=k8v8,0=k8v8)"), "bits(0=k8v8,5=k8v8)");
  EXPECT_EQ(canonical("bits(1=k8v8,2=k8v8,3-4=k4v4)"), "bits(1-2=k8v8,3-4=k4v4)");
  EXPECT_EQ(canonical("bits(0-5=k4v4)"), "k4v4");
  EXPECT_EQ(canonical("bits(0-5=f16)"), "full");
  EXPECT_EQ(canonical("tokens(0=full,1-5=snapkv(keep=64,window=8))"), "tokens(1-5=snapkv(keep=64,window=8))");
  EXPECT_EQ(canonical("tokens(0-5=h2o(heavy=0.1,recent=0.2)) + k8v8"), "h2o(recent=0.2) + k8v8");
  EXPECT_EQ(canonical("tokens(0-2=h2o,3-5=streaming(window=9)) + bits(3=k8v4) + rotate + grid(32)"),
            "tokens(0-2=h2o,3-5=streaming(window=9)) + bits(3=k8v4) + rotate + grid(32)");
}

TEST(PerLayer, SlotsGetWhatTheirLayersAreGiven) {
  const KvSpec spec = parse("map(0_0_2_2_4_4) + bits(0-1=k8v8,4=k4v4) + tokens(2=window(window=9))");
  ASSERT_EQ(spec.slots.size(), 3U);
  EXPECT_EQ(spec[SlotId{0}].k, Format::kInt8);
  EXPECT_EQ(spec[SlotId{1}].k, Format::kF16);
  EXPECT_EQ(spec[SlotId{2}].v, Format::kInt4);
  EXPECT_EQ(spec[SlotId{0}].tokens, nullptr);
  ASSERT_NE(spec[SlotId{1}].tokens, nullptr);
  EXPECT_EQ(spec[SlotId{1}].tokens->text(), "window(window=9)");
  EXPECT_EQ(spec.widest(), Format::kF16);
  EXPECT_EQ(parse("bits(3=f32)").widest(), Format::kF32);
}

TEST(PerLayer, BytesFollow) {
  const auto bytes = [](const std::string& text) {
    return plan_kv(std::make_shared<const KvSpec>(parse(text)), shape(), 256, 0, 64).steady;
  };
  EXPECT_EQ(bytes("bits(0-2=k4v4)").rows * 2, bytes("f16").rows + bytes("k4v4").rows);
  EXPECT_EQ(bytes("tokens(0-1=window(window=65))").rows * 3, bytes("window(window=65)").rows + 2 * bytes("f16").rows);
}

TEST(PerLayer, WrongTermsAreErrors) {
  EXPECT_ERROR(parse("bits(0-3=f16,2=k4v4)"), "bits names layer 2 twice");
  EXPECT_ERROR(parse("bits(0-6=k4v4)"), "a layer of bits is \"6\", expected an integer from 0 to 5");
  EXPECT_ERROR(parse("bits(3-1=k8v8)"), "bits names the layers 3-1, expected the lower one first");
  EXPECT_ERROR(parse("bits(0-=k8v8)"), "a layer of bits is \"\"");
  EXPECT_ERROR(parse("bits(0=k9v9)"), "bits has \"k9v9\", expected one of f16 f32");
  EXPECT_ERROR(parse("bits()"), "bits has no arguments, expected layers such as bits(0-3=…,4=…)");
  EXPECT_ERROR(parse("bits(k8v8)"), "bits has \"k8v8\", expected layers before it such as 0-3=k8v8");
  EXPECT_ERROR(parse("k8v8 + bits(0=k4v4)"), "two bits terms, k8v8 and bits");
  EXPECT_ERROR(parse("h2o + tokens(0=h2o)"), "two token terms, h2o and tokens");
  EXPECT_ERROR(parse("tokens(0=foo)"), "tokens has \"foo\", expected full or one of");
  EXPECT_ERROR(parse("tokens(0=h2o + h2o)"), "expected one token method");
  EXPECT_ERROR(parse("full + bits(0=k8v8)"), "full stands for all three axes");
  EXPECT_ERROR(parse("minicache + bits(3=k4v4)"), "layers 3 and 4 share their rows, but are given different bits");
  EXPECT_ERROR(parse("minicache + tokens(4=window(window=9))"),
               "layers 3 and 4 share their rows, but are given different tokens");
  EXPECT_NO_THROW(parse("minicache + tokens(0-2=keyl2)"));
  EXPECT_ERROR(parse("minicache + tokens(3-4=keyl2)"), "keyl2 goes by the norms of keys, minicache merges keys");
}

}  // namespace
}  // namespace lamina
