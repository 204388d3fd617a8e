// SPDX-License-Identifier: Apache-2.0
#include "model/model_identity.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace lamina {
namespace {

const std::string kTiny = LAMINA_TESTS "/golden/tiny/";

std::string identity(const std::string& path) { return model_identity(ModelFile::open(path)); }

TEST(ModelIdentity, IsThatOfTheWeightsNotOfThePath) {
  const std::string path = kTiny + "llama-gqa.gguf", copy = testing::TempDir() + "lamina_identity.gguf";
  std::ostringstream read;
  read << std::ifstream(path, std::ios::binary).rdbuf();
  std::string bytes = read.str();
  const std::string same = identity(path);
  EXPECT_EQ(same.size(), 64U);
  std::ofstream(copy, std::ios::binary) << bytes;
  EXPECT_EQ(identity(copy), same);
  bytes.back() ^= 1;  // of the last tensor
  std::ofstream(copy, std::ios::binary) << bytes;
  EXPECT_NE(identity(copy), same);
  std::filesystem::remove(copy);
}

TEST(ModelIdentity, EveryModelHasItsOwn) {
  const std::string a = identity(kTiny + "llama-gqa.gguf"), b = identity(kTiny + "gemma3.gguf"),
                    c = identity(kTiny + "llama-rope-yarn.gguf");
  EXPECT_NE(a, b);
  EXPECT_NE(a, c);
  EXPECT_NE(b, c);
}

}  // namespace
}  // namespace lamina
