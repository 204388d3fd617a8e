// SPDX-License-Identifier: Apache-2.0
#include "engine/base_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>

#include "base/error.h"
#include "engine/statistics.h"

namespace lamina {
namespace {

BaseText small_text(std::size_t vocab) {
  BaseText text{.model = "tiny",
                .identity = "0123456789abcdef",
                .spec = "full",
                .protocol = "continuations",
                .vocab = vocab,
                .windows = 2,
                .size = 5,
                .first = 3};
  for (Token token = 0; token < 10; ++token) text.tokens.push_back(token * 7);
  return text;
}

std::vector<float> random_rows(std::size_t n, float deviation, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(2, deviation);
  std::vector<float> rows(n);
  for (float& x : rows) x = normal(generator);
  return rows;
}

class BaseFileTest : public testing::Test {
 protected:
  void TearDown() override { std::remove(path_.c_str()); }

  void write(const BaseText& text, std::span<const float> logits) {
    BaseWriter writer(path_, text);
    writer.add(logits.first(text.vocab), pool_);
    writer.add(logits.subspan(text.vocab), pool_);
    writer.finish();
  }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path_, std::ios::binary).rdbuf();
    return text.str();
  }
  void replace(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }
  template <class Fn>
  std::string error_of(Fn fn) const {
    try {
      fn();
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.rfind(path_ + ": ", 0), 0U) << what;
      return what.substr(std::min(what.size(), path_.size() + 2));
    }
    return "no error";
  }
  std::string error_on_open() const {
    return error_of([this] { BaseFile{path_}; });
  }

  ThreadPool pool_{2};
  const std::string path_ = testing::TempDir() + "lamina_base_file";
};

// As the format promises: what is d below the most likely is off by sqrt(d depth) / 65535 + depth / 2^34 at most, and
// float32 rounds numbers of this size to 2e-6.
TEST_F(BaseFileTest, KeepsLogProbabilitiesToItsPrecision) {
  for (const std::size_t vocab : {std::size_t{1}, std::size_t{2}, std::size_t{513}, std::size_t{4096}})
    for (const float deviation : {0.0F, 0.01F, 3.0F}) {
      SCOPED_TRACE(testing::Message() << vocab << " logits of deviation " << deviation);
      const BaseText text = small_text(vocab);
      const std::vector<float> logits = random_rows(text.rows() * vocab, deviation, 1);
      write(text, logits);
      const BaseFile file(path_);
      EXPECT_EQ(file.text().spec, "full");
      EXPECT_EQ(file.text().tokens, text.tokens);
      file.expect(text);
      std::vector<float> read(vocab);
      for (std::size_t row = 0; row < text.rows(); ++row) {
        const auto x = std::span(logits).subspan(row * vocab, vocab);
        file.read(row, read);
        double sum = 0, most = -1e30, least = 1e30;
        for (const float value : x) {
          sum += std::exp(static_cast<double>(value));
          most = std::max<double>(most, value);
          least = std::min<double>(least, value);
        }
        const double depth = most - least;
        for (std::size_t i = 0; i < vocab; ++i) {
          const double below = most - x[i], most_off = std::sqrt(below * depth) / 65535 + depth * 0x1p-34 + 4e-6;
          ASSERT_NEAR(read[i], x[i] - std::log(sum), most_off) << "row " << row << ", " << below << " below";
        }
      }
    }
}

// KL changes by the covariance of the errors and ln(p / q), at most the largest error times the mean |ln(p / q)|, and
// by half the errors' variance: of these rows, at most 30 deep and 1 apart, 5e-4.
TEST_F(BaseFileTest, ScoresAreThoseOfTheLogitsThemselves) {
  const BaseText text = small_text(20000);
  const std::vector<float> logits = random_rows(text.rows() * text.vocab, 3, 2),
                           noise = random_rows(text.vocab, 0.3F, 3);
  write(text, logits);
  const BaseFile file(path_);
  std::vector<float> read(text.vocab), ours(text.vocab);
  for (std::size_t row = 0; row < text.rows(); ++row) {
    const auto x = std::span(logits).subspan(row * text.vocab, text.vocab);
    for (std::size_t i = 0; i < ours.size(); ++i) ours[i] = x[i] + noise[i];
    file.read(row, read);
    const TokenScore exact = compare_token(x, ours, 5), kept = compare_token(read, ours, 5);
    EXPECT_GT(exact.kl, 0.01);
    EXPECT_NEAR(kept.kl, exact.kl, 1e-5);
    EXPECT_NEAR(kept.base_nll, exact.base_nll, 5e-4);
    EXPECT_EQ(kept.nll, exact.nll);
    EXPECT_EQ(kept.same_top, exact.same_top);
    EXPECT_LT(compare_token(read, x, 5).kl, 1e-7);
  }
}

TEST_F(BaseFileTest, TheBytesDoNotDependOnThreadsOrPieces) {
  const BaseText text = small_text(77);
  const std::vector<float> logits = random_rows(text.rows() * text.vocab, 3, 4);
  write(text, logits);
  const std::string bytes = content();
  ThreadPool one(1);
  BaseWriter writer(path_, text);
  writer.add(logits, one);
  writer.finish();
  EXPECT_EQ(content(), bytes);
}

TEST_F(BaseFileTest, AnotherModelLayoutOrTextIsRefused) {
  const BaseText text = small_text(4);
  write(text, random_rows(text.rows() * 4, 1, 5));
  const BaseFile file(path_);
  const auto error = [&](auto change) {
    BaseText wanted = small_text(4);
    change(wanted);
    return error_of([&] { file.expect(wanted); });
  };
  EXPECT_EQ(error([](BaseText& t) { t.spec = "k8v8"; }), "no error");
  EXPECT_EQ(error([](BaseText& t) { t.identity = "fedcba9876543210", t.model = "huge"; }),
            "logits of the model tiny (0123456789ab), this one is huge (fedcba987654)");
  EXPECT_EQ(error([](BaseText& t) { t.protocol = "windows"; }), "logits of continuations, asked for are windows");
  EXPECT_EQ(error([](BaseText& t) { t.first = 2; }),
            "2 windows of 5 tokens, scored from token 3 on; asked for are 2 of 5 from 2 on");
  EXPECT_EQ(error([](BaseText& t) { t.tokens[6] = 1; }), "logits of another text: token 6 is 42, here it is 1");
  EXPECT_EQ(error([](BaseText& t) { t.vocab = 5; }), "4 logits a row, the model has 5");
}

TEST_F(BaseFileTest, WhatIsNoWholeFileIsRefused) {
  const BaseText text = small_text(4);
  write(text, random_rows(text.rows() * 4, 1, 6));
  const std::string bytes = content();
  EXPECT_EQ(error_on_open(), "no error");
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    replace(bytes.substr(0, size));
    EXPECT_NE(error_on_open(), "no error") << size;
  }
  replace(bytes + "x");
  EXPECT_EQ(error_on_open(),
            fmt::format("{} bytes, expected {} for 10 tokens and 4 rows of 4 logits", bytes.size() + 1, bytes.size()));
  std::string other = bytes;
  other[8] = 2;
  replace(other);
  EXPECT_EQ(error_on_open(), "version 2 of the format, expected 1");
  replace("x" + bytes.substr(1));
  EXPECT_EQ(error_on_open(), "no file of base logits (see --save-base): it does not begin with \"LAMBASE\"");
  const auto changed = [&](const std::string& old, const std::string& now) {
    other = bytes;
    replace(other.replace(other.find(old), old.size(), now));
    return error_on_open();
  };
  EXPECT_NE(changed("\"first\":3", "\"first\":5").find("expected some of each"), std::string::npos);
  EXPECT_NE(changed("\"windows\":2", "\"windows\":-").find("JSON"), std::string::npos);
  EXPECT_NE(changed("\"vocab\":4", "\"vocab\":\"").find("JSON"), std::string::npos);
  EXPECT_NE(changed("\"vocab\":4", "\"vacab\":4").find("vocab"), std::string::npos);
}

TEST_F(BaseFileTest, LogitsThatAreNotFiniteAreRefused) {
  const BaseText text = small_text(3);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    BaseWriter writer(path_, text);
    const std::vector<float> row{1, bad, 2};
    EXPECT_THROW(writer.add(row, pool_), Error) << bad;
  }
  EXPECT_FALSE(std::ifstream(path_).is_open());
}

}  // namespace
}  // namespace lamina
