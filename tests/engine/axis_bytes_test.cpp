// SPDX-License-Identifier: Apache-2.0
#include "engine/axis_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "engine/session.h"
#include "engine/tune_specs.h"

namespace lamina {
namespace {

struct Subject {
  explicit Subject(const std::string& file) : model(Model::load(LAMINA_TESTS "/golden/tiny/" + file, pool)) {}

  // After a prompt of 300 tokens.
  AxisBytes bytes(const std::string& spec) {
    std::vector<Token> tokens(300);
    for (int i = 0; i < 300; ++i) tokens[static_cast<std::size_t>(i)] = 1 + i * i % 97;
    const auto parsed = std::make_shared<const KvSpec>(KvSpec::parse(spec, model.shape()));
    Session session(model, pool, {.spec = parsed, .context = 300});
    session.prompt(tokens);
    held = session.kv().bytes();
    axes = axes_of(*parsed, model.shape());
    return bytes_by_axis(session.kv());
  }

  ThreadPool pool{1};
  Model model;
  KvBytes held{};
  Axes axes{};
};

TEST(AxisBytesTest, OfTheDenseCacheNothingIsSaved) {
  for (const char* file : {"llama-gqa.gguf", "gemma3.gguf"}) {  // the second has layers with a window
    Subject subject(file);
    const AxisBytes full = subject.bytes("full");
    EXPECT_EQ(full.dense, full.held) << file;
    EXPECT_EQ(full.held, static_cast<std::int64_t>(subject.held.total()));
    EXPECT_EQ(std::tuple(full.layers, full.tokens, full.bits, full.overhead), std::tuple(0, 0, 0, 0)) << file;
  }
}

TEST(AxisBytesTest, EachAxisHasItsOwnAndTheySumUp) {
  for (const char* file : {"llama-gqa.gguf", "gemma3.gguf"}) {
    Subject subject(file);
    const std::int64_t dense = subject.bytes("full").held;
    const auto beside_rows = [&] { return static_cast<std::int64_t>(subject.held.total() - subject.held.rows); };
    const std::int64_t dense_beside = beside_rows();
    for (const char* spec : {"k8v8", "kivi4(group=32,residual=64)", "window(window=40)", "adakv(keep=0.25)",
                             "minicache", "minicache(of=v)", "minicache + h2o", "minicache + adakv(keep=0.25)",
                             "minicache(start=0.0) + window(window=40) + k8v4"}) {
      const AxisBytes b = subject.bytes(spec);
      SCOPED_TRACE(file + std::string(" ") + spec);
      EXPECT_EQ(b.dense, dense);
      EXPECT_EQ(b.held, static_cast<std::int64_t>(subject.held.total()));
      EXPECT_EQ(b.dense, b.held + b.layers + b.tokens + b.bits - b.overhead);
      // An axis that does nothing has saved nothing, to the byte: rows in f16 are counted as they are held.
      EXPECT_EQ(b.layers > 0, subject.axes.layers);
      EXPECT_EQ(b.tokens > 0, subject.axes.tokens);
      EXPECT_EQ(b.bits > 0, subject.axes.bits);
      EXPECT_GE(std::min({b.layers, b.tokens, b.bits}), 0);
      if (!subject.axes.layers && !subject.axes.tokens) {
        EXPECT_EQ(b.overhead, beside_rows() - dense_beside);
      }
      EXPECT_LE(b.overhead, beside_rows());
      EXPECT_GE(b.overhead, beside_rows() - dense_beside);
    }
  }
}

TEST(AxisBytesTest, AreWhatTheSpecsSay) {
  Subject subject("llama-gqa.gguf");
  const AxisBytes map = subject.bytes("map(0_0_2_2)");
  EXPECT_EQ(map.layers, map.dense / 2);
  EXPECT_EQ(map.overhead, 0);
  const AxisBytes window = subject.bytes("map(0_0_2_2) + window(sinks=4,window=72) + k8v8");
  EXPECT_EQ(window.layers, map.layers);  // the first axis saves the same whatever comes after it
  EXPECT_NEAR(static_cast<double>(window.tokens), static_cast<double>(map.held) * 225 / 300, 1);
  const AxisBytes layer = subject.bytes("tokens(1=window(sinks=4,window=72))");
  EXPECT_NEAR(static_cast<double>(layer.tokens), static_cast<double>(layer.dense) / 4 * 225 / 300, 1);
  subject.bytes("full");
  const auto rows = static_cast<double>(subject.held.rows);
  EXPECT_EQ(subject.bytes("f32").bits, -std::llround(rows));
  EXPECT_NEAR(static_cast<double>(subject.bytes("k8v8").bits), rows / 2, 0.06 * rows);  // but for the newest
  const AxisBytes pair = subject.bytes("minicache");  // the upper two of four layers, nearly all rows
  EXPECT_NEAR(static_cast<double>(pair.layers) / static_cast<double>(pair.dense), 0.25, 0.05);
}

}  // namespace
}  // namespace lamina
