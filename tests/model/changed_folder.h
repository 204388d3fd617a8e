// SPDX-License-Identifier: Apache-2.0
// A test with a Hugging Face folder of its own: a copy of a golden that it may change.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "model/forward.h"

namespace lamina {

inline const std::string kHfFolders = std::string(LAMINA_TESTS) + "/golden/hf/";

inline nlohmann::json read_json(const std::string& path) { return nlohmann::json::parse(std::ifstream(path)); }

class ChangedFolder : public ::testing::Test {
 protected:
  ChangedFolder() {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_.parent_path());
  }
  ~ChangedFolder() override { std::filesystem::remove_all(path_); }

  std::string copy(const std::string& name) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(kHfFolders + name, path_);
    return path_;
  }
  std::string file(const std::string& name) const { return path_ / name; }

  // A copy of a folder with fields of its config changed; null erases.
  std::string with(const std::string& name, const nlohmann::json& fields) {
    copy(name);
    nlohmann::json config = read_json(file("config.json"));
    config.merge_patch(fields);
    std::ofstream(file("config.json")) << config;
    return path_;
  }

  // Tensors by their names, as the file has them; written back with `write`.
  struct Tensors {
    nlohmann::json header;
    std::string data;
  };
  Tensors read() const {
    std::ifstream in(file("model.safetensors"), std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    std::uint64_t size = 0;
    std::memcpy(&size, all.data(), sizeof size);
    return {nlohmann::json::parse(all.substr(8, size)), all.substr(8 + size)};
  }
  void write(const Tensors& tensors) const {
    const std::string header = tensors.header.dump();
    const std::uint64_t size = header.size();
    std::ofstream out(file("model.safetensors"), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out << header << tensors.data;
  }

  // What loading the folder says, without the folder's path.
  std::string error() const {
    ThreadPool pool(1);
    try {
      Model::load(path_, pool);
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.rfind(path_.string(), 0), 0U) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      return text.substr(std::min(text.size(), path_.string().size()));
    }
    return "no error";
  }
  std::string error_with(const std::string& name, const nlohmann::json& fields) {
    with(name, fields);
    return error();
  }

  const std::filesystem::path path_ = std::filesystem::path(testing::TempDir()) / "lamina-hf" /
                                      testing::UnitTest::GetInstance()->current_test_info()->name();
};

}  // namespace lamina
